import Glibc
import Model
import System
import Values

/// A machine boots at once, and reads here what is not all here yet.
extension FetchWorker {
    /// Whether it can be done so; if not, it was said why, or a plain fetch says it better.
    func fetchLazily(_ address: ImageURL, _ known: ImageCache.Entry?, _ expected: Digest?) throws -> Bool {
        switch try LazyProbe(address, web!, known: known?.record.validators, loop).ask() {
        case .notModified, .trouble: return false
        case .no(let why):
            say(.note("\(address.shown): \(why), so it is fetched before the machine boots"))
            return false
        case .yes(let validators, let bytes):
            let head = DiskHead(Array(bytes.prefix(DiskHead.size)))
            if let packer = head.packer, request.format == nil {
                let why = "it is packed (\(packer)), so it is fetched and unpacked before the machine boots"
                say(.note("\(address.shown): \(why)"))
                return false
            }
            // The machine reads before any digest is compared.
            let part = try PartialFile(cache.partPath(stem), source: address.shown, trustsCrash: false)
            let there = part.record.validators
            if there.length == nil || there.condition == nil || !there.isSameFile(as: validators) {
                try part.reset(validators)
            }
            try bytes.withUnsafeBytes { try part.write($0, at: 0) }
            try checkSpace(part)
            let serving = try Serving(self, part, address, expected)
            try serving.transfer.startLazily()
            let image = try serving.inspect(head)
            isServing = true
            say(.served(image, expected))
            try serving.run()
            return true
        }
    }

    /// The process that served it has died, and the machine still reads.
    func goOn(serving image: DiskImage, _ address: ImageURL) throws {
        isServing = true
        let expected = try expectedDigest()
        // It may have died after the last byte.
        if let held = try? ImageCache.hold(image.path) {
            let server = try NBDServer(
                request.lazySocket!, owner: request.lazyOwner, file: held.raw, length: image.fileSize, loop: loop)
            say(.whole)
            lock?.release()
            try loop.run { false }
            withExtendedLifetime((server, held)) {}
        }
        let part = try PartialFile(cache.partPath(stem), source: address.shown, trustsCrash: false)
        guard part.length == image.fileSize, part.record.begun == image.modified else {
            throw Failure(
                .fetch, "go on fetching", address.shown, "what was here of it is gone",
                remedy: "start the machine again")
        }
        let serving = try Serving(self, part, address, expected)
        try serving.transfer.startLazily()
        try serving.run()
    }
}

/// One image, read by a machine while it comes.
private final class Serving {
    private let worker: FetchWorker
    private let part: PartialFile
    private let address: ImageURL
    private let expected: Digest?
    private let server: NBDServer
    let transfer: Transfer
    private var digesting: Follower!
    private var digest: Digest?
    private var outcome: Transfer.Outcome?
    private var isStalled = false

    init(_ worker: FetchWorker, _ part: PartialFile, _ address: ImageURL, _ expected: Digest?) throws {
        self.worker = worker
        self.part = part
        self.address = address
        self.expected = expected
        let length = part.length ?? 0
        do throws(Errno) { try Errno.check { ftruncate(part.file.raw, off_t(length)) } } catch {
            throw Failure(.host, "write", part.path, error)
        }
        server = try NBDServer(
            worker.request.lazySocket!, owner: worker.request.lazyOwner, file: part.file.raw, length: length,
            loop: worker.loop)
        transfer = Transfer(address, worker.request.web, web: worker.web!, loop: worker.loop, into: part, known: nil)
        digesting = try worker.follow(
            part.file.raw, expected?.algorithm ?? .sha256, from: part.digest, onState: part.setDigest,
            onDigest: { [unowned self] in digest = $0 })
        connect()
    }

    private func connect() {
        server.isThere = { [unowned self] in part.present.contains($0) }
        server.onWait = { [unowned self] in try transfer.want($0) }
        transfer.onNote = { [unowned self] in worker.say(.note("\(address.shown): \($0)")) }
        transfer.onTrouble = { [unowned self] in
            isStalled = $0 != nil
            worker.tell(isStalled ? .stalled : .fetching, part, always: true)
        }
        transfer.onBytes = { [unowned self] in
            transfer.rate = worker.count($0, part)
            digesting.tell(part.frontier)
            try server.serve()
            worker.tell(isStalled ? .stalled : .fetching, part)
        }
        transfer.onOutcome = { [unowned self] in outcome = $0 }
    }

    /// What it is, as the machine is going to read it.
    func inspect(_ head: DiskHead) throws -> DiskImage {
        let length = part.length ?? 0
        var image = DiskImage(
            path: part.path, format: .iso, virtualSize: ByteCount(length), isBlockDevice: false, fileSize: length,
            allocated: length, modified: part.record.begun)
        do {
            let target = "nbd+unix:///?socket=\(worker.request.lazySocket!)"
            let inspection = try ImageInspection(
                image, head, target: target, format: worker.request.format, qemuImg: worker.request.qemuImg,
                loop: worker.loop)
            image = try inspection.finish()
        } catch var failure as Failure {
            failure.subject = address.shown
            if failure.kind != .fetch { PartialFile.remove(part.path) }
            throw failure
        }
        // Where it is going to be.
        image.path = worker.diskPath(part.record.validators, begun: part.record.begun)
        (image.source, image.served) = (worker.request.shown, worker.request.lazySocket)
        return image
    }

    /// As long as the machine runs.
    func run() throws {
        try worker.loop.run { outcome != nil }
        switch outcome! {
        case .whole where part.isWhole: break
        case .failed(let failure, _): throw failure
        case .whole, .notModified:
            throw Failure(.fetch, "fetch", address.shown, "its server says that it is all here, and it is not")
        }
        digesting.tellEnd(part.length ?? 0)
        worker.tell(.checking, part, always: true)
        try worker.loop.run { digest != nil }
        do {
            if let expected { try worker.compare(digest!, expected) }
            try worker.publish(
                part.path, begun: part.record.begun, record: worker.record(part.record.validators, digest),
                announce: { _ in worker.say(.whole) })
        } catch let failure as Failure where [.checksum, .image].contains(failure.kind) {
            PartialFile.remove(part.path)
            worker.say(.failed(failure))
        } catch let failure as Failure {
            // The image is right, and only its name can't be had.
            worker.say(.warning("\(failure.line); the machine goes on, and the next start fetches what is missing"))
        }
        // The machine still reads, and others may fetch now.
        let held = try? ImageCache.hold(worker.diskPath(part.record.validators, begun: part.record.begun))
        worker.lock?.release()
        try worker.loop.run { false }
        withExtendedLifetime(held) {}
    }
}
