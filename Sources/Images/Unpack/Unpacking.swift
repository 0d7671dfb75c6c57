import Glibc
import Model
import System
import Values

/// A disk on its way out of a packed file, and its own digest behind it.
final class Unpacking: Follower {
    let path: String
    private let output: HeldDescriptor
    private let digesting: Digesting?
    private var member: String?
    private var failure: Failure?
    /// What the layer takes away of those below it.
    private(set) var removed: [String] = []
    /// A failure is thrown as it comes, rather than when all of the file is here.
    var failsAtOnce = false
    var onWritten: (UInt64) -> Void = { _ in }

    private static let mostRemoved = 1000
    /// The process has its dictionary, at most a gigabyte, and what it is itself.
    private static let memory: UInt64 = 2 << 30

    /// A file with a suffix is only looked at: it gets no digest.
    init(_ worker: FetchWorker, _ file: Int32, _ request: UnpackRequest, suffix: String? = nil) throws {
        path = worker.cache.newPath(worker.stem) + (suffix ?? "")
        output = try HeldDescriptor(opening: path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, .host, "write")
        digesting = suffix == nil ? try Digesting(worker, output.raw, .sha256) : nil
        try super.init(
            worker, .unpack, try JSON(encoding: request), files: [file, output.raw], user: worker.request.worker,
            addressSpace: Unpacking.memory)
    }

    override func take(_ message: JSON) throws {
        if let written = message["written"]?.integer {
            digesting?.tell(UInt64(max(0, written)))
            onWritten(UInt64(max(0, written)))
        }
        if let name = message["unpacked"]?.string { member = name }
        if let name = message["removed"]?.string, removed.count < Unpacking.mostRemoved { removed.append(name) }
        if let said = message["failed"] {
            failure = try said.decode(Failure.self)
            failure?.subject = worker.request.shown
        }
    }

    override func end(_ words: String?) throws {
        if let words, failure == nil { failure = Failure(.image, "unpack", worker.request.shown, words) }
        if failsAtOnce, let failure { throw failure }
    }

    /// Waits for the disk.
    func finish() throws {
        try worker.loop.run { hasEnded }
        if let failure { throw failure }
    }

    /// Waits for the disk, and gives it its name in the cache.
    func publish(_ packed: Digest?, _ validators: Validators, packer: String?) throws {
        try finish()
        digesting?.tellEnd(output.size)
        try worker.publish(
            path, begun: Files.timeNow, validators, packed, packer: packer, member: member, digesting)
    }

    /// All of a file that is here; false where there was nothing in it that was looked for.
    @discardableResult
    func take(
        whole file: HeldDescriptor, _ length: UInt64, _ expected: Digest?, _ validators: Validators, packer: String?
    ) throws -> Bool {
        do {
            let reading = try Digesting(worker, file.raw, expected?.algorithm ?? .sha256)
            reading.tellEnd(length)
            tellEnd(length)
            let packed = try reading.wait()
            if let expected { try worker.compare(packed, expected) }
            try worker.loop.run { hasEnded }
            if failure == nil, member == nil {
                discard()
                return false
            }
            try publish(packed, validators, packer: packer)
            return true
        } catch {
            discard()
            throw error
        }
    }

    func discard() {
        stop()
        digesting?.stop()
        unlink(path)
    }
}
