import CLinux
import Glibc
import Model
import System
import Values

/// What tells one state of a file on a server from another.
package struct Validators: Codable, Equatable {
    var etag: String?
    var lastModified: String?
    package var length: UInt64?
    /// The date is in whole seconds: only one that was past when it was told is of one state of the file.
    var isDateStrong: Bool?

    /// A weak tag says that two files mean the same, not that they are the same bytes.
    private var strongTag: String? { etag.flatMap { $0.hasPrefix("W/") ? nil : $0 } }

    /// For If-Range: with it a server sends the rest of this file or the whole of another one, never a mixture.
    var condition: String? { strongTag ?? (isDateStrong == true ? lastModified : nil) }

    /// In one word, where it tells one state of the file from the next.
    var version: String? { condition.map { "\($0) \(length ?? 0)" } }

    /// The header lines that ask for a file only if it is another one; for that a weak tag will do.
    var onlyIfChanged: [String] {
        [etag.map { "If-None-Match: \($0)" }, lastModified.map { "If-Modified-Since: \($0)" }].compactMap(\.self)
    }

    /// Whether it is the file that it was when the transfer began. Of several servers each may have tags of its own.
    func isStill(_ before: Validators) -> Bool {
        let isDated = before.isDateStrong == true && lastModified == before.lastModified
        return isSameFile(as: before) || isDated && (length == nil || before.length == nil || length == before.length)
    }

    /// Whether bytes of one can stand beside bytes of the other.
    func isSameFile(as other: Validators) -> Bool {
        if let length, let theirs = other.length, length != theirs { return false }
        if let tag = strongTag, let theirs = other.strongTag { return tag == theirs }
        return lastModified == other.lastModified && etag == other.etag
    }
}

/// A file on its way here, with a record beside it, so that whoever comes next goes on from where this one broke off.
package final class PartialFile {
    package struct Record: Codable {
        package var source: String
        package var validators = Validators()
        package var present = Spans()
        var digest: DigestState?
        /// What was written without being synced does not outlive the host's crash.
        var boot: String
        /// The time that the finished file is to have, whenever that is.
        var begun: Int64
        /// It ended with its connection, whatever ended that.
        var isEndUnsure: Bool?
    }

    package let path: String
    var record: Record
    private(set) var file: HeldDescriptor
    /// The host has crashed since: what was not synced may be lost.
    let isOfOtherBoot: Bool
    private(set) var unsaved: UInt64 = 0
    private var nextSave = ContinuousClock.now

    var present: Spans { record.present }
    var length: UInt64? { record.validators.length }
    var isWhole: Bool { length.map { present.prefix >= $0 } ?? false }
    /// What followers may read.
    var frontier: UInt64 { present.prefix }
    /// What was kept of a digest, as long as the bytes are there that it is of.
    var digest: DigestState? { record.digest.flatMap { $0.offset <= frontier ? $0 : nil } }

    /// `trustsCrash` says that a digest is going to be compared, so that bytes written before a crash may be tried.
    init(_ path: String, source: String, trustsCrash: Bool) throws(Failure) {
        self.path = path
        file = try HeldDescriptor(opening: path, O_RDWR | O_CREAT | O_NOFOLLOW, .host, "write")
        let boot = PartialFile.boot
        record = Record(source: source, boot: boot, begun: Files.timeNow)
        guard let found: Record = ImageCache.read(path + ".json"),
            let status = try? file.descriptor.status(), found.source == source, found.boot == boot || trustsCrash,
            found.present.end <= UInt64(status.st_size),
            found.validators.length ?? 0 <= UInt64(Int64.max)
        else {
            isOfOtherBoot = false
            return
        }
        isOfOtherBoot = found.boot != boot
        record = found
        // The digest is of bytes that were in memory then. The boot stays the old one until all of it has been compared.
        if isOfOtherBoot { record.digest = nil }
    }

    static var boot: String { FileTree().line("/proc/sys/kernel/random/boot_id") ?? "" }

    /// Begins anew, with the file that the server has now; in a new file, since a machine may still read the old one.
    func reset(_ validators: Validators) throws(Failure) {
        record = Record(
            source: record.source, validators: validators, boot: PartialFile.boot, begun: Files.timeNow)
        unlink(path)
        unlink(path + ".json")
        file = try HeldDescriptor(opening: path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, .host, "write")
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(Failure) {
        try Failure.naming(.host, "write", path, try file.descriptor.write(bytes, at: offset)) { _ in
            "choose another place with --cache"
        }
        record.present.insert(offset..<offset + UInt64(bytes.count))
        unsaved += UInt64(bytes.count)
        if unsaved >= PartialFile.saveEvery, ContinuousClock.now >= nextSave { try save() }
    }

    /// So much is fetched twice at most when the launcher is killed.
    private static let saveEvery: UInt64 = 256 << 10

    /// A killed launcher leaves the old record or the new one.
    func save() throws(Failure) {
        // Nothing is worth no record, for which there may be no room.
        if present.count == 0 { return }
        let start = ContinuousClock.now
        do {
            try Files.replace(path + ".json", Array("\(try JSON(encoding: record).text)\n".utf8), mode: 0o600)
        } catch {
            throw Failure(.host, "write", path + ".json", error as? Errno ?? Errno.last)
        }
        unsaved = 0
        // However long the record is, keeping it takes a twentieth of the time at most.
        let end = ContinuousClock.now
        nextSave = end + max(.milliseconds(4), (end - start) * 20)
    }

    private static let roomForRecord: UInt64 = 256 << 10

    /// Where there is no room even for the record, the end of the file makes some: it is fetched again.
    func saveWithoutRoom() {
        if (try? save()) != nil { return }
        let end = present.end - min(present.end, PartialFile.roomForRecord)
        record.present.cut(at: end)
        try? file.descriptor.truncate(to: end)
        try? save()
    }

    /// What has the file's name is still the file, and all of it is there.
    func refuseReplaced() throws(Failure) {
        guard let length, let named = try? Files.status(path), let ours = try? file.descriptor.status(),
            named.st_ino == ours.st_ino, named.st_dev == ours.st_dev, ours.st_size == length
        else {
            throw Failure(
                .image, "fetch", record.source, "somebody else has changed \(path)",
                remedy: "find out who writes there, and start again")
        }
    }

    static func remove(_ path: String) {
        unlink(path)
        for suffix in [".json", ".json.new"] { unlink(path + suffix) }
    }
}

/// What another process brings, for a machine that reads it meanwhile.
final class PartReader {
    let file: HeldDescriptor
    private let path: String
    private let image: DiskImage
    private(set) var spans = Spans()

    init(_ path: String, _ image: DiskImage) throws(Failure) {
        self.path = path
        self.image = image
        file = try HeldDescriptor(opening: path, O_RDONLY | O_NOFOLLOW, .fetch, "go on reading")
        look()
    }

    /// Takes over what is there by now, as long as it is still the file that the machine reads: one that was begun anew is
    /// another, and what was seen of the old one stays there.
    func look() {
        guard let record: PartialFile.Record = ImageCache.read(path + ".json"), record.begun == image.modified,
            record.validators.length == image.fileSize, let named = try? Files.status(path),
            let ours = try? file.descriptor.status(), named.st_ino == ours.st_ino
        else { return }
        spans = record.present
    }
}
