import Glibc
import Model
import System
import Values

/// What is done with a file's bytes while they come.
final class Arrival {
    private let worker: FetchWorker
    private let part: PartialFile
    private let expected: Digest?
    private var digesting: Follower?
    private var digest: Digest?
    private var unpacking: Unpacking?
    private var head: DiskHead?
    private var hasSpace = false

    init(_ worker: FetchWorker, _ part: PartialFile, _ expected: Digest?) {
        self.worker = worker
        self.part = part
        self.expected = expected
    }

    func advance() throws {
        if !hasSpace {
            hasSpace = true
            try worker.checkSpace(part)
        }
        if digesting == nil { try startDigest() }
        if head == nil, part.frontier >= DiskHead.size || part.isWhole { try look() }
        digesting?.tell(part.frontier)
        unpacking?.follower.tell(part.frontier)
    }

    private func startDigest() throws {
        digesting = try worker.follow(
            part.file.raw, expected?.algorithm ?? .sha256, from: part.digest,
            onState: { [part] in part.setDigest($0) }, onDigest: { [unowned self] in digest = $0 })
    }

    /// What is it? A page of a server that means well is told from a disk before gigabytes have come.
    private func look() throws {
        var bytes = [UInt8](repeating: 0, count: DiskHead.size)
        let count = pread(part.file.raw, &bytes, bytes.count, 0)
        let found = DiskHead(Array(bytes.prefix(max(0, count))))
        head = found
        guard worker.request.format == nil else { return }
        if found.packer != nil {
            unpacking = try Unpacking(worker, part.file.raw, found)
            // A wrong checksum is the better word for what is broken.
            unpacking?.failsAtOnce = expected == nil
        } else if expected == nil, !found.hasFormat, !found.isDescriptor, let length = part.length {
            let image = DiskImage(
                path: worker.request.shown, format: .raw, virtualSize: ByteCount(length), isBlockDevice: false,
                fileSize: length, allocated: length, modified: 0)
            try image.refuseUnbootable(found)
        }
    }

    func reset() {
        digesting?.stop()
        unpacking?.discard()
        (digesting, unpacking, head, digest, hasSpace) = (nil, nil, nil, nil, false)
    }

    /// Nothing of it is kept.
    func discard() {
        reset()
        PartialFile.remove(part.path)
    }

    func finish() throws {
        try advance()
        let length = part.length ?? 0
        digesting?.tellEnd(length)
        unpacking?.follower.tellEnd(length)
        worker.tell(unpacking == nil ? .checking : .unpacking, part, always: true)
        try worker.loop.run { digest != nil }
        if let expected { try worker.compare(digest!, expected) }
        if let unpacking {
            return try unpacking.publish(digest) { [part, head] digest, member in
                worker.record(part.record.validators, digest, packer: head?.packer, member: member)
            }
        }
        let record = worker.record(part.record.validators, digest)
        if try worker.isThere(record) { return }
        try worker.publish(
            part.path, begun: part.record.begun, record: record, announce: { worker.say(.ready($0)) })
    }
}

/// A disk on its way out of a packed file, and its own digest behind it.
final class Unpacking {
    let path: String
    private(set) var follower: Follower!
    private let worker: FetchWorker
    private let output: Descriptor
    private var digesting: Follower!
    private var digest: Digest?
    private var isOver = false
    private var member: String?
    private var failure: Failure?
    /// What the layer takes away of those below it.
    private(set) var removed: [String] = []
    /// Rather than when all of the file is here.
    var failsAtOnce = false
    private static let mostRemoved = 1000
    var onWritten: (UInt64) -> Void = { _ in }

    init(
        _ worker: FetchWorker, _ file: Int32, _ head: DiskHead, folder: String? = nil, excluded: [String] = []
    ) throws {
        self.worker = worker
        path = worker.cache.newPath(worker.stem)
        do throws(Errno) {
            output = try Descriptor.open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW)
        } catch {
            throw Failure(.host, "write", path, error)
        }
        let unpack = UnpackRequest(
            member: worker.request.member, folder: folder, maxSize: worker.request.maxSize, excluded: excluded,
            isGzip: head.isGzip, needsSeeking: head.needsSeeking)
        digesting = try worker.follow(output.raw, .sha256) { [unowned self] in digest = $0 }
        follower = try worker.startUnpacking(
            file, into: output.raw, unpack,
            onWritten: { [unowned self] in
                digesting.tell($0)
                onWritten($0)
            },
            onRemoved: { [unowned self] in if removed.count < Unpacking.mostRemoved { removed.append($0) } },
            onEnd: { [unowned self] in
                (member, failure, isOver) = ($0, $1, true)
                if failsAtOnce, let failure { throw failure }
            })
    }

    /// Waits for the disk; the member that it was.
    private func finish() throws -> String? {
        try worker.loop.run { isOver }
        if let failure { throw failure }
        digesting.tellEnd(UInt64(lseek(output.raw, 0, SEEK_END)))
        return member
    }

    private func content() throws -> Digest? {
        try worker.loop.run { digest != nil }
        return digest
    }

    typealias Recording = (_ packed: Digest?, _ member: String?) -> ImageCache.Record

    func publish(_ packed: Digest?, record: Recording) throws {
        let member = try finish()
        let record = record(packed, member)
        if try worker.isThere(record) { return discard() }
        try worker.publish(
            path, begun: Files.timeNow, record: record, announce: { worker.say(.ready($0)) }, content: { try content() }
        )
    }

    /// All of a file that is here; false where there was nothing in it that was looked for.
    @discardableResult
    func take(
        whole file: HeldDescriptor, _ length: UInt64, _ expected: Digest?, record: Recording
    ) throws -> Bool {
        defer { withExtendedLifetime(file) {} }
        do {
            var packed: Digest?
            let reading = try worker.follow(file.raw, expected?.algorithm ?? .sha256) { packed = $0 }
            reading.tellEnd(length)
            follower.tellEnd(length)
            try worker.loop.run { packed != nil }
            if let expected { try worker.compare(packed!, expected) }
            try worker.loop.run { isOver }
            if failure == nil, member == nil {
                discard()
                return false
            }
            try publish(packed, record: record)
            return true
        } catch {
            discard()
            throw error
        }
    }

    func discard() {
        follower.stop()
        digesting.stop()
        unlink(path)
    }
}
