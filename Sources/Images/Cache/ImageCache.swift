import CLinux
import Glibc
import Model
import System
import Values

/// The folder of fetched images. A file has its final name only when it is whole and was found right.
package struct ImageCache {
    /// What is known of a finished image.
    package struct Record: Codable {
        /// Where it came from, without a login.
        package var source: String
        var validators: Validators
        /// Of the file as it was fetched, and of the disk that was in it, where that is another one.
        package var digest: Digest?
        package var content: Digest?
        /// The other one was taken of all that was unpacked. 0.1.0 could take it before the last of it was written.
        var isContentWhole: Bool?
        /// Of the disk; nil where it is not known for sure.
        package var diskDigest: Digest? { packer == nil ? content ?? digest : isContentWhole == true ? content : nil }
        package var packer: String?
        var member: String?
        package var image: DiskImage
        /// Nanoseconds since 1970.
        package var fetched: Int64
        /// Until it is known to be on the disk, its content is only trusted in this boot.
        var boot: String?
        /// Whose word it was found to agree with.
        var checkedBy: String?

        /// What is known of it, as it lies at this path.
        func image(at path: String) -> DiskImage {
            var image = image
            (image.path, image.digest, image.content) = (path, digest?.description, diskDigest?.description)
            (image.member, image.version) = (member, validators.version)
            return image
        }
    }

    package struct Entry {
        package var stem: String
        package var record: Record
        package var path: String
        package var image: DiskImage { record.image(at: path) }

        /// What was only in memory when the host crashed may be lost.
        var isTrusted: Bool {
            let size = (try? Files.status(path)).map { UInt64($0.st_size) }
            return size == record.image.fileSize && (record.boot == nil || record.boot == PartialFile.boot)
        }
    }

    package let folder: String

    package init(folder: String) { self.folder = folder }

    /// Held by the one process that fetches from a source.
    final class Lock {
        private let path: String
        private let madeFolders: [String]
        private var file: HeldDescriptor?

        fileprivate init(_ path: String, _ file: HeldDescriptor, madeFolders: [String]) {
            self.path = path
            self.madeFolders = madeFolders
            self.file = file
        }

        /// Who waits for it sees that its name is gone, and makes a new one. A folder in which nothing came to be goes too.
        func release() {
            if file == nil { return }
            unlink(path)
            file = nil
            for folder in madeFolders.reversed() { rmdir(folder) }
        }
    }

    /// nil where another has it, and is not waited for.
    func lock(_ stem: String, waits: () -> Bool = { false }) throws(Failure) -> Lock? {
        let path = "\(folder)/\(stem).lock"
        // Images hold what their makers put into them.
        let locked = try Failure.naming(
            .host, "write", path, try HeldDescriptor.locking(path, folderMode: 0o700, waits: waits)
        ) { $0.isRefusal ? "choose another place with --cache" : nil }
        return locked.map { Lock(path, $0.file, madeFolders: $0.madeFolders) }
    }

    /// The files of one source: a name for people, and a digest of what makes it another source.
    static func stem(name: String, source: String) -> String {
        let plain = name.map { $0.isASCII && ($0.isLetter || $0.isNumber || "._-".contains($0)) ? $0 : "_" }
        let start = String(plain.drop { $0 == "." }.prefix(80))
        return (start.isEmpty ? "image" : start) + "-" + hexadecimal(stableDigest("image", source) >> 32, digits: 8)
    }

    func partPath(_ stem: String) -> String { "\(folder)/\(stem).part" }
    func newPath(_ stem: String) -> String { "\(folder)/\(stem).new" }

    // MARK: - Finished images

    package static let diskSuffix = ".disk"

    static func read<Record: Decodable>(_ path: String) -> Record? {
        FileTree().text(path).flatMap { try? JSON(parsing: $0).decode(Record.self) }
    }

    private static func recordPath(_ path: String) -> String {
        String(path.dropLast(ImageCache.diskSuffix.count)) + ".json"
    }

    /// Oldest first.
    package var entries: [Entry] {
        Files.names(folder).filter { $0.hasSuffix(ImageCache.diskSuffix) }.compactMap { name in
            ImageCache.entry(at: "\(folder)/\(name)")
        }.sorted { ($0.record.fetched, $0.stem) < ($1.record.fetched, $1.stem) }
    }

    /// What the record beside the file says; nil where it is none of a cache.
    package static func entry(at path: String) -> Entry? {
        guard path.hasSuffix(diskSuffix), var record: Record = read(recordPath(path)) else { return nil }
        // The folder may be mounted elsewhere by now.
        record.image.path = path
        let name = path.split(separator: "/").last ?? ""
        return Entry(stem: String(name.dropLast(diskSuffix.count)), record: record, path: path)
    }

    /// The image that a disk was made on: where it was then, or fetched anew. None that a crash may have damaged.
    package func entry(of base: DiskImage) -> Entry? {
        let there = [ImageCache.entry(at: base.path)].compactMap(\.self) + entries.reversed()
        return there.first { $0.isTrusted && $0.image.difference(from: base) == nil }
    }

    // MARK: - Kept disks on them

    /// One list for all versions of an image: a disk can't do without its own, wherever that comes from next.
    private static func keepersPath(_ path: String) -> String? {
        let (folder, name) = (Files.folder(of: path), String(path.split(separator: "/").last ?? ""))
        guard name.hasSuffix(diskSuffix), let stem = stem(in: name) else { return nil }
        return "\(folder)/\(stem.dropLast(9)).kept"
    }

    /// Remembers beside the image that a disk in this folder stands on it.
    package static func note(keeper folder: String, of path: String) {
        // Whoever can't write here can't remove images either.
        guard let list = keepersPath(path), !lines(list).contains(folder),
            let locked = try? HeldDescriptor.locking(list, folderMode: 0o700, waits: { true })
        else { return }
        try? locked.file.writeAll(Array("\(folder)\n".utf8))
        for path in [list, Files.folder(of: list)] { try? Files.sync(path) }
    }

    /// The folders of kept disks that stand on some version of the image.
    package static func keepers(of path: String) -> [String] {
        (keepersPath(path).map(lines) ?? []).filter(hasOverlay)
    }

    private static func lines(_ list: String) -> [String] { FileTree().lines(list).map(String.init) }

    /// A start that was killed may have left a record, and no disk yet.
    private static func hasOverlay(_ folder: String) -> Bool {
        let record = FileTree().text("\(folder)/machine.json").flatMap { try? JSON(parsing: $0) }
        return record?["isOverlay"]?.bool == true && access("\(folder)/disk.img", F_OK) == 0
    }

    /// Of those whose disk is gone, or stands by itself, nobody speaks again.
    private static func forgetKeepers(_ list: String) {
        guard let locked = try? HeldDescriptor.locking(list, folderMode: 0o700, waits: { true }) else { return }
        withExtendedLifetime(locked.file) {
            let lines = lines(list)
            let left = lines.filter(hasOverlay)
            if left.isEmpty { unlink(list) }
            if left.isEmpty || left.count == lines.count { return }
            let text = left.map { "\($0)\n" }.joined()
            try? Files.replace(list, Array(text.utf8), mode: 0o600, syncs: true)
        }
    }

    /// The newest of a source; with a digest, the newest of those that have it.
    func newest(_ stem: String, of source: String, with digest: Digest? = nil) -> Entry? {
        entries.last {
            $0.stem.dropLast(9) == stem && $0.record.source == source && $0.isTrusted
                && (digest == nil || $0.record.digest == digest)
        }
    }

    /// Where nobody named the folder, another user may have made it first, with images of his own.
    func refuseStrangers() throws(Failure) {
        try Failure.refuseStrangers(folder, option: "--cache")
    }

    func write(_ record: Record, for path: String) throws(Failure) {
        do {
            let text = try JSON(encoding: record).prettyText + "\n"
            try Files.replace(ImageCache.recordPath(path), Array(text.utf8), mode: 0o600)
        } catch {
            throw Failure(.host, "write", ImageCache.recordPath(path), error as? Errno ?? Errno.last)
        }
    }

    package func remove(_ entry: Entry) throws(Failure) {
        do throws(Errno) {
            let file = try Descriptor.open(entry.path, O_RDONLY)
            guard try file.tryLock() else { throw .busy }
            // The record first: without one it is no image.
            for path in [ImageCache.recordPath(entry.path), entry.path] { try Errno.check { unlink(path) } }
            ImageCache.keepersPath(entry.path).map(ImageCache.forgetKeepers)
        } catch {
            if error == .busy {
                throw Failure(
                    .busy, "remove image", entry.stem, "a running machine has it", remedy: "stop the machine first")
            }
            throw Failure(.host, "remove", entry.path, error)
        }
    }

    /// Held by who uses the image, so that nobody removes it.
    package static func hold(_ path: String) throws(Failure) -> HeldDescriptor {
        let file = try HeldDescriptor(opening: path, O_RDONLY, .image, "open")
        try Failure.naming(.image, "open", path, try Errno.check { flock(file.raw, LOCK_SH) })
        return file
    }

    // MARK: - Those on their way

    package struct Partial {
        package var stem: String
        package var record: PartialFile.Record
    }

    package var partials: [Partial] {
        Files.names(folder).filter { $0.hasSuffix(".part") }.sorted().compactMap { name in
            guard let record: PartialFile.Record = ImageCache.read("\(folder)/\(name).json") else { return nil }
            return Partial(stem: String(name.dropLast(5)), record: record)
        }
    }

    package func remove(_ partial: Partial) throws(Failure) {
        if try removeUnfinished(partial.stem) { return }
        throw Failure(.busy, "remove image", partial.stem, "it is being fetched", remedy: "stop that first")
    }

    /// Takes away what a fetch left; false where one is at work.
    @discardableResult
    private func removeUnfinished(_ stem: String) throws(Failure) -> Bool {
        guard let lock = try lock(stem) else { return false }
        PartialFile.remove(partPath(stem))
        // What a killed unpacker leaves.
        for suffix in ["", ".layer", ".text"] { unlink(newPath(stem) + suffix) }
        lock.release()
        return true
    }

    /// What nobody can use: of fetches that were killed, and images without a record or records without one.
    package func removeStrays() throws(Failure) {
        let names = Files.names(folder)
        let kept = Set(entries.map(\.stem))
        for name in names {
            guard let dot = name.lastIndex(of: "."), let stem = ImageCache.stem(in: name) else { continue }
            let isFinished = [".disk", ".json"].contains(name[dot...]) && !name.hasSuffix(".part.json")
            if name.hasSuffix(".json.new"), !name.hasSuffix(".part.json.new") {
                unlink("\(folder)/\(name)")
            } else if name.hasSuffix(".kept") {
                ImageCache.forgetKeepers("\(folder)/\(name)")
            } else if isFinished {
                if !kept.contains(String(name[..<dot])) { unlink("\(folder)/\(name)") }
            } else {
                try removeUnfinished(stem)
            }
        }
    }

    /// NAME-KEY, where it is a file of ours: the key is eight digits, and a version eight more.
    private static func stem(in name: String) -> String? {
        let suffixes = [
            ".part.json.new", ".part.json", ".json.new", ".part", ".new.layer", ".new.text", ".new", ".lock", ".disk",
            ".json", ".kept",
        ]
        guard let suffix = suffixes.first(where: name.hasSuffix) else { return nil }
        let stem = name.dropLast(suffix.count)
        let key = stem.suffix(9)
        guard key.count == 9, key.first == "-", key.dropFirst().allSatisfy(\.isHexDigit) else { return nil }
        return String(stem)
    }
}
