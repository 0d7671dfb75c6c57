import Glibc
import Model
import System
import Values

/// What is done with a file's bytes while they come.
final class Arrival {
    private let worker: FetchWorker
    private let part: PartialFile
    private let expected: Digest?
    private var digesting: Digesting?
    private var unpacking: Unpacking?
    private var head: DiskHead?

    init(_ worker: FetchWorker, _ part: PartialFile, _ expected: Digest?) {
        self.worker = worker
        self.part = part
        self.expected = expected
    }

    @discardableResult
    func advance() throws -> Digesting {
        if self.digesting == nil { try worker.checkSpace(part) }
        let digesting = try self.digesting ?? Digesting(worker, part.file.raw, expected?.algorithm ?? .sha256, of: part)
        self.digesting = digesting
        if head == nil, part.frontier >= DiskHead.size || part.isWhole { try look() }
        digesting.tell(part.frontier)
        unpacking?.tell(part.frontier)
        return digesting
    }

    /// Looks what the file is: a page that a server sends in its place is told from a disk before gigabytes have come.
    private func look() throws {
        var bytes = [UInt8](repeating: 0, count: DiskHead.size)
        let count = pread(part.file.raw, &bytes, bytes.count, 0)
        let found = DiskHead(Array(bytes.prefix(max(0, count))))
        head = found
        guard worker.request.format == nil else { return }
        if found.packer != nil {
            unpacking = try Unpacking(worker, part.file.raw, UnpackRequest(worker.request))
            // A wrong checksum is the better word for what is broken.
            unpacking?.failsAtOnce = expected == nil
        } else if expected == nil, !found.hasFormat, !found.isDescriptor, let length = part.length {
            let image = DiskImage(path: worker.request.shown, format: .raw, length: length, modified: 0)
            try image.refuseUnbootable(found)
        }
    }

    func reset() {
        digesting?.stop()
        unpacking?.discard()
        (digesting, unpacking, head) = (nil, nil, nil)
    }

    func finish() throws {
        let digesting = try advance()
        let length = part.length ?? 0
        digesting.tellEnd(length)
        unpacking?.tellEnd(length)
        worker.tell(unpacking == nil ? .checking : .unpacking, part, always: true)
        let digest = try digesting.wait()
        if let expected { try worker.compare(digest, expected) }
        if let unpacking { return try unpacking.publish(digest, part.record.validators, packer: head?.packer) }
        if expected == nil, part.record.isEndUnsure == true {
            throw Failure(
                .fetch, "fetch", worker.request.shown,
                "its server does not say how long it is, so that nobody can tell whether this is all of it",
                remedy: "give --checksum, or take it from another server")
        }
        try part.refuseReplaced()
        try worker.publish(part.path, begun: part.record.begun, part.record.validators, digest)
    }
}
