import CLinux
import Glibc
import Host
import Images
import Model
import Planning
import System
import Values

/// `snabbvm disk`: looks at the disk that --state keeps, and changes what it stands on. Each change is a new file, which
/// takes the place of the old one in one step once it is whole and on the disk: whatever ends it earlier has done nothing.
struct DiskCommand {
    private let arguments: Arguments
    private let folders: MachinePaths
    private let qemuImg: String
    private let loop: EventLoop
    private let log: Log
    private let record: MachineRecord
    private let secret: String?
    /// Held as long as the disk is not to change under us; nil where a machine has it.
    private let lock: HeldDescriptor?

    private let told = Told()

    private struct Interruption: Error { var signal: Int32 }

    static func perform(_ arguments: Arguments, _ log: Log) throws -> Int32 {
        let command = try DiskCommand(arguments, log)
        do {
            switch arguments.diskVerb {
            case .info: return try command.info()
            case .check: return try command.check()
            case .rebase: try command.rebase(onto: arguments.image ?? "")
            case .flatten, .commit: try command.flatten()
            case .export: try command.export(to: Files.absolute(arguments.image ?? ""))
            }
        } catch let interruption as Interruption {
            log.note("broken off; the disk is as it was")
            return 128 + interruption.signal
        }
        return 0
    }

    private init(_ arguments: Arguments, _ log: Log) throws {
        self.arguments = arguments
        self.log = log
        folders = MachinePaths(arguments)
        guard let qemuImg = Files.findProgram("qemu-img") else {
            throw Failure.missing("qemu-img", package: "qemu-utils")
        }
        self.qemuImg = qemuImg
        loop = try EventLoop()
        loop.onSignal = { throw Interruption(signal: $0) }
        secret = try arguments.secretFile.map { name throws(Failure) in
            try FileFinder().find(name, what: "secret file")
        }
        if access(folders.disk, F_OK) != 0 {
            throw Failure(.usage, "look at", folders.disks, "no disk is kept there", remedy: "see --state")
        }
        let folder = try HeldDescriptor(opening: folders.disks, O_RDONLY | O_DIRECTORY, .host, "open")
        let isFree = try Failure.naming(.host, "lock", folders.disks, try folder.descriptor.tryLock())
        if !isFree, arguments.diskVerb != .info {
            throw Failure(.busy, "use", "--state \(folders.disks)", "a machine has it", remedy: "stop that first")
        }
        lock = isFree ? folder : nil
        let kept = try KeptState(folders, mayBeRunning: true)
        for warning in kept.warnings { log.warning(warning) }
        guard let record = kept.record, record.diskFormat != nil else {
            throw Failure(.image, "look at", folders.disk, "nothing says what it is")
        }
        self.record = record
        if ![.info, .rebase].contains(arguments.diskVerb) { try requireSecret() }
    }

    private var format: DiskFormat { record.diskFormat ?? .raw }
    private var isEncrypted: Bool { record.isEncrypted == true }

    private func requireSecret() throws(Failure) {
        guard isEncrypted, secret == nil else { return }
        throw Failure(.usage, "open", folders.disk, "it is encrypted", remedy: "give its passphrase with --secret-file")
    }

    // MARK: - What it stands on

    /// The image that the disk stands on, as it is now; or why it can't be used.
    private enum Base {
        case none
        case here(DiskImage)
        case missing(String)
    }

    private func base() throws -> Base {
        guard record.isOverlay, let before = record.image else { return .none }
        if let source = before.source {
            let cache = ImageCache(folder: folders.images)
            if let entry = cache.entry(of: before) { return .here(entry.image) }
            return .missing("it is not in \(cache.folder); a start with \(source) as IMAGE fetches it")
        }
        if access(before.path, F_OK) != 0 { return .missing("there is no such file; see snabbvm disk rebase") }
        let now = try inspect(before.path, before.format)
        return now.difference(from: before).map { .missing("it \($0) since the disk was made on it") } ?? .here(now)
    }

    private func usableBase() throws -> DiskImage? {
        switch try base() {
        case .none: return nil
        case .here(let image): return image
        case .missing(let why):
            throw Failure(.image, "use", record.image?.source ?? record.image?.path ?? "the image", why)
        }
    }

    private func inspect(_ path: String, _ format: DiskFormat?) throws -> DiskImage {
        try ImageInspection(path, format: format, qemuImg: qemuImg, loop: loop).finish()
    }

    // MARK: - Looking

    private func info() throws -> Int32 {
        let status = try Failure.naming(.image, "read", folders.disk, try Files.status(folders.disk))
        let onDisk = ByteCount(UInt64(status.st_blocks) * 512)
        let base = try base()
        let image = record.isOverlay ? record.image : nil
        var found = image
        var problem: String?
        if case .here(let now) = base { found = now }
        if case .missing(let why) = base { problem = why }
        let chain = [folders.disk] + (found.map { [$0.path] } ?? [])
        if arguments.json {
            let disk: JSON = try [
                "path": .string(folders.disk), "format": .string(format.rawValue),
                "size": JSON(encoding: record.diskSize), "onDisk": JSON(encoding: onDisk),
                "encrypted": .bool(isEncrypted),
            ]
            let all: JSON = try [
                "disk": disk, "base": JSON(encoding: found), "problem": JSON(encoding: problem),
                "chain": JSON(encoding: chain), "inUse": .bool(lock == nil), "uuid": .string(record.uuid),
            ]
            print(all.prettyText)
            return 0
        }
        let size = record.diskSize.map { ", \($0)" } ?? ""
        var rows = [
            (
                "disk",
                "\(folders.disk), \(format.rawValue)\(size), \(onDisk) on disk\(isEncrypted ? ", encrypted" : "")"
            ),
            ("machine", record.uuid + (lock == nil ? ", running or starting" : ", not running")),
        ]
        if let found {
            rows.append(("base", "\(found.path), \(found.format.rawValue), \(found.virtualSize)"))
            let marks = [found.source, found.member.map { "member \($0)" }, found.content ?? found.digest]
            let from = marks.compactMap(\.self).joined(separator: ", ")
            rows.append(("from", from.isEmpty ? "a file of the user's" : from))
            rows.append(("state", problem ?? "here, and the one that the disk was made on"))
        } else {
            rows.append(("base", "none: the disk stands by itself"))
        }
        rows.append(("chain", chain.joined(separator: " on ")))
        print(rows.map { "\($0.0.padded(to: 9))\($0.1.oneLine)" }.joined(separator: "\n"))
        return 0
    }

    /// The disk's own tables, then whether its image is what it was, by its digest where that is known.
    private func check() throws -> Int32 {
        if format == .qcow2 { try checkTables() }
        guard let image = try usableBase() else {
            print("\(folders.disk): no errors, and it stands by itself")
            return 0
        }
        guard let wanted = image.content.flatMap({ Digest(text: $0) }) else {
            print("\(folders.disk): no errors; \(image.path) is as it was, by its size and time")
            return 0
        }
        let found = try Digest(of: image.path, wanted.algorithm) { share in
            show("reading \(image.path)", share)
            try loop.drain()
        }
        log.showPassing(nil)
        if found != wanted {
            throw Failure(
                .checksum, "trust", image.path, "its content is \(found), and was \(wanted)",
                remedy: "fetch it again: snabbvm images rm --force, then give it as IMAGE")
        }
        print("\(folders.disk): no errors; \(image.path) is right (\(wanted))")
        return 0
    }

    private func checkTables() throws {
        let words = secretWords + ["--output=json", layers(disk: folders.disk, on: nil)]
        let job = try Job(
            Command(program: qemuImg, arguments: ["check"] + words), in: loop, limit: DiskCommand.patience, kind: .image
        )
        try loop.run { job.hasEnded }
        let answer = try? JSON(parsing: job.output)
        if let corruptions = answer?["corruptions"]?.integer, corruptions > 0 {
            throw Failure(
                .image, "trust", folders.disk, "\(corruptions) of its tables' entries are wrong",
                remedy: "copy it first, then try qemu-img check -r all \(folders.disk)")
        }
        if let leaks = answer?["leaks"]?.integer, leaks > 0 {
            log.note("\(leaks) clusters of \(folders.disk) belong to nothing: only space is lost by that")
        } else if job.status != .code(0) {
            throw Failure(.image, "check", folders.disk, Job.words(of: job.errors, status: job.status))
        }
    }

    // MARK: - Changing

    /// A copy of a large disk takes its time.
    private static let patience = Duration.seconds(7 * 24 * 3600)

    private func rebase(onto name: String) throws {
        guard record.isOverlay, let before = record.image else {
            throw Failure(.usage, "rebase", folders.disk, "it stands by itself, on no image")
        }
        try requireSecret()
        let image = try locate(name, before)
        if let why = image.difference(from: before), !arguments.force {
            throw Failure(
                .image, "put the disk in \(folders.disks) on", image.source ?? image.path, "it \(why)",
                remedy: "give the image as it was; if you know that it is the same, --force")
        }
        let words = secretWords + ["-u", "-b", image.path, "-F", image.format.rawValue]
        try run(["rebase"] + words + [layers(disk: folders.disk, on: nil)], "rebase", folders.disk)
        // The header's place is on the disk before the record says so.
        try Failure.naming(.image, "sync", folders.disk, try Files.sync(folders.disk))
        try write(arguments.force ? image : image.knowing(before), isOverlay: true)
        log.note("\(folders.disk) stands on \(image.path) now")
    }

    private func locate(_ name: String, _ before: DiskImage) throws -> DiskImage {
        let facts = try HostFacts.read(for: arguments)
        switch try Preparation.imageFinder(arguments).locate(name, arguments, facts) {
        case .disk(let path, let format): return try inspect(path, format ?? before.format)
        case .fetch(let request):
            if request.means(before), let entry = ImageCache(folder: request.cache).entry(of: before) {
                return entry.image
            }
            let fetch = try ImageFetch(request, loop: loop, log: log)
            return try fetch.wait()
        }
    }

    /// The disk takes in all that it has of its image, which it then does without.
    private func flatten() throws {
        guard let image = try usableBase() else {
            return log.note("\(folders.disk) stands by itself already")
        }
        try convert(to: folders.flattened, as: .qcow2, on: image, isSecret: isEncrypted)
        try Failure.naming(
            .image, "rename to", folders.disk, try Errno.check { rename(folders.flattened, folders.disk) })
        try Failure.naming(.image, "sync", folders.disks, try Files.sync(folders.disks))
        try write(record.image, isOverlay: false)
        log.note("\(folders.disk) stands by itself now")
    }

    private func export(to path: String) throws {
        if access(path, F_OK) == 0 {
            throw Failure(.usage, "write", path, "there is a file of this name", remedy: "choose another name")
        }
        let suffix = String(path.split(separator: ".").last ?? "")
        let named = ["img": DiskFormat.raw, "vhd": .vpc][suffix] ?? DiskFormat(rawValue: suffix)
        let wanted = arguments.format ?? named ?? .qcow2
        if wanted == .iso {
            throw Failure(.usage, "write", path, "a disk can't be an ISO", remedy: "choose another --format")
        }
        let unfinished = "\(path).unfinished-by-snabbvm"
        try convert(to: unfinished, as: wanted, on: try usableBase(), isSecret: isEncrypted && wanted == .qcow2)
        try Failure.naming(.image, "write", path, try Errno.check { clinux_rename_new(unfinished, path) })
        if isEncrypted, wanted != .qcow2 {
            log.warning("\(path) is not encrypted any more: \(wanted.rawValue) can't be")
        }
        print(path)
    }

    /// A whole copy of disk and image, on the disk when this returns; nothing is left of one that was broken off.
    private func convert(to path: String, as wanted: DiskFormat, on image: DiskImage?, isSecret: Bool) throws {
        unlink(path)
        var words = ["convert", "-p"] + secretWords
        if isSecret { words += ["-o", "encrypt.format=luks,encrypt.key-secret=secret"] }
        // A VHD's size would be rounded to what old disks could have.
        if wanted == .vpc { words += ["-o", "force_size=on"] }
        words += ["-O", wanted.rawValue, layers(disk: folders.disk, on: image), path]
        do {
            for repetition in 0... {
                do { try run(words, "copy", folders.disk) } catch let failure as Failure
                    where failure.isMismeasured && repetition < Failure.mostRepetitions
                { continue }
                break
            }
            try Failure.naming(.image, "sync", path, try Files.sync(path))
        } catch {
            // The program must not write on while its file is removed.
            loop.onSignal = { _ in }
            try loop.endChildren()
            unlink(path)
            throw error
        }
    }

    private func write(_ image: DiskImage?, isOverlay: Bool) throws {
        let now = MachineRecord(
            uuid: record.uuid, image: image, diskFormat: format, diskSize: record.diskSize, isOverlay: isOverlay)
        let text = try JSON(encoding: now).prettyText + "\n"
        try Failure.naming(
            .image, "write", folders.record,
            try Files.replace(folders.record, Array(text.utf8), mode: 0o600, syncs: true))
    }

    // MARK: - qemu-img

    private var secretWords: [String] {
        secret.map { ["--object", "secret,id=secret,file=\($0.replacing([",": ",,"]))"] } ?? []
    }

    /// The disk as qemu-img is to open it, alone or on its image, whatever its header says of places.
    private func layers(disk path: String, on image: DiskImage?) -> String {
        var layers = layer(path, format, isDevice: false, isEncrypted: isEncrypted)
        if format == .qcow2 {
            layers["backing"] = .null
            if let image {
                let isEncrypted = image.encryption != nil
                layers["backing"] = .object(
                    layer(image.path, image.format, isDevice: image.isBlockDevice, isEncrypted: isEncrypted))
            }
        }
        return "json:\(JSON.object(layers).text)"
    }

    private func layer(_ path: String, _ format: DiskFormat, isDevice: Bool, isEncrypted: Bool) -> [String: JSON] {
        let file: JSON = ["driver": isDevice ? "host_device" : "file", "filename": .string(path)]
        var layer: [String: JSON] = ["driver": .string(format == .iso ? "raw" : format.rawValue), "file": file]
        if isEncrypted { layer["encrypt"] = ["format": "luks", "key-secret": "secret"] }
        return layer
    }

    private func run(_ words: [String], _ operation: String, _ subject: String) throws {
        let command = Command(program: qemuImg, arguments: words)
        let job = try Job(
            command, in: loop, limit: DiskCommand.patience, kind: .image,
            onOutput: { bytes in
                // "(12.34/100%)", each over the last.
                let text = String(decoding: bytes, as: UTF8.self)
                guard let start = text.lastIndex(of: "("),
                    let share = Double(text[start...].dropFirst().prefix { $0 != "/" })
                else { return }
                show("\(operation)ing \(subject)", share / 100)
            })
        defer { log.showPassing(nil) }
        do { try job.finish(.image, operation, subject) } catch let failure as Failure {
            if failure.cause.contains(Errno.noSpace.description) {
                throw Failure(.image, operation, subject, Errno.noSpace)
            }
            throw failure.cause.contains(Failure.wrongPassphrase) ? failure.forPassphrase : failure
        }
    }

    /// When something was last said of how far it is.
    private final class Told {
        private var at = ContinuousClock.now

        func isDue(after pause: Duration) -> Bool {
            if ContinuousClock.now - at < pause { return false }
            at = .now
            return true
        }
    }

    /// A line in place on a terminal, now and then one elsewhere, JSON for programs.
    private func show(_ what: String, _ share: Double) {
        let percent = Int(share * 100)
        switch log.style {
        case .terminal(let columns): log.showPassing(String("\(what): \(percent) %".prefix(columns - 1)))
        case .lines: if told.isDue(after: .seconds(5)) { log.note("\(what): \(percent) %") }
        case .objects:
            guard told.isDue(after: .seconds(1)) else { return }
            log.object(["level": "progress", "what": .string(what), "done": .integer(Int64(percent)), "total": 100])
        }
    }
}
