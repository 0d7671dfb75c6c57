import CLinux
import Glibc

/// The process that brings one image into the cache: transfer, digest and unpacking side by side, each in a process of
/// its own; the launcher has none of their libraries in its memory and none of their risks.
final class FetchWorker {
    let request: FetchRequest
    let cache: ImageCache
    let stem: String
    let loop: EventLoop
    private let web: Web?
    private var lock: ImageCache.Lock?
    private var meter = Meter()
    private var saving: EventLoop.Timer?

    static func run() throws -> Int32 {
        var line: [UInt8] = []
        while line.last != 0x0a, let byte = try Descriptor(dup(STDIN_FILENO)).read(atMost: 1).first {
            line.append(byte)
        }
        let request = try JSON(parsing: line).decode(FetchRequest.self)
        do {
            let worker = try FetchWorker(request)
            defer { worker.lock?.release() }
            try worker.fetch()
            return 0
        } catch {
            let failure =
                error as? Failure
                ?? Failure(.unexpected, "fetch", request.shown, "\(error)", remedy: "please report this")
            say(.failed(failure))
            return failure.kind.rawValue
        }
    }

    private static func say(_ event: FetchEvent) {
        if let json = try? JSON(encoding: event) { sayMessage(json) }
    }

    private func say(_ event: FetchEvent) { FetchWorker.say(event) }

    private init(_ request: FetchRequest) throws {
        self.request = request
        cache = ImageCache(folder: request.cache)
        var name = request.shown
        if case .url(let address) = request.source { name = address.withoutLogin }
        // Another member of an archive is another image.
        stem = ImageCache.stem(name: request.fileName, source: name + (request.member.map { "\0\($0)" } ?? ""))
        loop = try EventLoop()
        if case .url = request.source {
            web = try Web(request.web, loop: loop)
        } else {
            web = request.checksum.flatMap(Address.init) == nil ? nil : try Web(request.web, loop: loop)
        }
    }

    // MARK: - The story

    private func fetch() throws {
        if request.web.isInsecure {
            say(.warning("--insecure: certificates are not checked; anybody on the way can put in another image"))
        }
        if case .file(let path) = request.source,
            try ImageInspection.open(path).1.packer == nil || request.format != nil
        {
            return try checkFile(path)
        }
        lock = try cache.lock(stem) { [self] in
            say(.note("another snabbvm is fetching \(request.shown): waiting for it"))
        }
        var known = cache.newest(stem)
        let expected: Digest?
        do { expected = try expectedDigest() } catch let absence as Absence {
            guard let known else { throw absence.failure }
            return try fallBack(to: known, nil, absence.failure)
        }
        // Of what was packed with a digest of the other kind, nobody can say whether it is what is wanted.
        if let expected, let there = known?.record, there.packer != nil,
            there.digest?.algorithm != expected.algorithm
        {
            known = nil
        }
        // A digest says better than any server whether it is the one.
        if let expected,
            let known = cache.entries.last(where: {
                $0.belongs(to: stem) && $0.isTrusted && $0.record.digest == expected
            })
        {
            return try use(known, nil)
        }
        switch request.source {
        case .url(let address): try fetch(address, known, expected)
        case .file(let path): try unpack(file: path, known, expected)
        case .oci(let path, let tag): try OCIFetch(self, path, tag).run(known)
        }
    }

    /// A disk as it is, which need not be in the cache.
    private func checkFile(_ path: String) throws {
        let inspection = try ImageInspection(path, format: request.format, qemuImg: request.qemuImg, loop: loop)
        if let expected = try expectedDigestOrFailure() {
            let file = try open(path)
            let found = try digest(of: file.raw, expected.algorithm)
            try compare(found, expected)
        }
        say(.ready(try inspection.finish()))
    }

    func open(_ path: String) throws(Failure) -> Descriptor {
        do throws(Errno) { return try Descriptor.open(path, O_RDONLY | O_NOCTTY) } catch {
            throw Failure(.image, "read image", path, error)
        }
    }

    func use(_ entry: ImageCache.Entry, _ expected: Digest?) throws {
        if let expected, var found = entry.record.digest {
            if found.algorithm != expected.algorithm {
                found = try digest(of: try open(entry.path).raw, expected.algorithm)
            }
            try compare(found, expected)
        }
        // The same file in another format than was asked for is another image.
        if let format = request.format, format != entry.record.image.format {
            let inspection = try ImageInspection(entry.path, format: format, qemuImg: request.qemuImg, loop: loop)
            var image = try inspection.finish()
            image.source = request.shown
            return try offer(image)
        }
        try offer(entry.record.image)
    }

    private func fallBack(to entry: ImageCache.Entry, _ expected: Digest?, _ failure: Failure) throws {
        say(.warning("\(failure.line); taking the one that was fetched \(entry.age)"))
        try use(entry, expected)
    }

    /// Ready; and served too, where a machine reads it at its socket already.
    private func offer(_ image: DiskImage) throws {
        if request.isContinued, let socket = request.lazySocket {
            let file = try open(image.path)
            let server = try NBDServer(
                socket, owner: request.lazyOwner, file: file.raw, length: image.fileSize, loop: loop)
            say(.whole)
            lock?.release()
            try loop.run { false }
            withExtendedLifetime((server, file.raw)) {}
        }
        say(.ready(image))
    }

    // MARK: - What it must be

    /// The server is away, or the network.
    private struct Absence: Error { var failure: Failure }

    private func expectedDigestOrFailure() throws -> Digest? {
        do { return try expectedDigest() } catch let absence as Absence { throw absence.failure }
    }

    private func expectedDigest() throws -> Digest? {
        guard let text = request.checksum else { return nil }
        switch ChecksumRequest(text) {
        case .literal(let digest): return digest
        case .list(let place): return try digestFromList(place)
        case nil: throw Failure(.usage, "use", "--checksum \(text)", "it is neither sha256:… nor sha512:… nor a list")
        }
    }

    private func digestFromList(_ place: String) throws -> Digest {
        let address = Address(place).flatMap { $0.scheme == "file" ? nil : $0 }
        let shown = address?.shown ?? place
        var list = try text(place)
        if let keyring = request.keyring {
            list = try Signature(keyring, gpgv: request.gpgv, loop: loop).verified(list, named: shown) { suffix in
                if let address { return try? self.text(address.adding(suffix).text) }
                return try? self.text(place + suffix)
            }
        }
        let digests = ChecksumList(String(decoding: list, as: UTF8.self))
        guard let digest = digests.digest(for: request.fileName) else {
            throw Failure(
                .checksum, "find the checksum of", request.fileName,
                digests.count == 0 ? "\(shown) is no list of SHA-256 or SHA-512 digests" : "\(shown) does not name it",
                remedy: "look whether it is the list for this file")
        }
        return digest
    }

    private static let longestText = 8 << 20

    /// A small file from anywhere.
    private func text(_ place: String) throws -> [UInt8] {
        let path = Address(place).map { $0.scheme == "file" ? $0.path : nil } ?? place
        if let path {
            do throws(Errno) { return try Files.read(path, limit: FetchWorker.longestText) } catch {
                throw Failure(.checksum, "read", path, error)
            }
        }
        guard let address = Address(place), let web else { return [] }
        var failures = 0
        while true {
            var content: [UInt8] = []
            var failure: WebFailure?
            var isOver = false
            let asked = try WebRequest(address, in: web)
            asked.onHead = { address.isFTP || $0.status == 200 }
            asked.onBody = {
                content += $0
                return content.count <= FetchWorker.longestText
            }
            asked.onEnd = {
                failure =
                    $0 ?? (address.isFTP || asked.head.status == 200 ? nil : WebFailure(status: asked.head.status))
                isOver = true
            }
            try loop.run { isOver }
            guard let failure else { return content }
            failures += 1
            let limit = cache.newest(stem) == nil ? request.web.attempts : min(2, request.web.attempts)
            guard failure.isPassing, failures < limit else {
                let final = Failure(.fetch, "fetch", address.shown, failure.words, remedy: failure.remedy)
                throw failure.isAbsence ? Absence(failure: final) as any Error : final
            }
            try pause(request.web.sleep + request.web.tick * Double(failures - 1))
        }
    }

    private func pause(_ seconds: Double) throws {
        var isOver = false
        loop.after(.seconds(seconds)) { isOver = true }
        try loop.run { isOver }
    }

    func compare(_ found: Digest, _ expected: Digest) throws(Failure) {
        if found == expected { return }
        throw Failure(
            .checksum, "use image", request.shown,
            "its \(found.algorithm.rawValue) is \(found.hex), and not \(expected.hex)",
            remedy: "nothing of it was kept; see whether image and checksum belong together")
    }

    private func digest(of file: Int32, _ algorithm: DigestAlgorithm) throws -> Digest {
        var result: Digest?
        let follower = try follow(file, algorithm) { result = $0 }
        follower.tellEnd(UInt64(lseek(file, 0, SEEK_END)))
        try loop.run { result != nil }
        return result!
    }

    // MARK: - Followers

    func follow(
        _ file: Int32, _ algorithm: DigestAlgorithm, from state: DigestState? = nil,
        onState: @escaping (DigestState) -> Void = { _ in }, onDigest: @escaping (Digest) throws -> Void
    ) throws -> Follower {
        let settings = try JSON(encoding: DigestWorker.Request(algorithm: algorithm, from: state))
        let follower = try Follower(.digest, settings, files: [file], loop: loop)
        follower.onMessage = {
            if let state = $0["state"] { onState(try state.decode(DigestState.self)) }
            if let digest = $0["digest"] { try onDigest(try digest.decode(Digest.self)) }
        }
        follower.onEnd = { [request] in
            if let words = $0 { throw Failure(.image, "read image", request.shown, words) }
        }
        return follower
    }

    /// It has its dictionary, at most a gigabyte, and what it is itself.
    private static let unpackingMemory: UInt64 = 2 << 30

    func startUnpacking(
        _ file: Int32, into output: Int32, _ unpack: UnpackRequest, onWritten: @escaping (UInt64) -> Void = { _ in },
        onRemoved: @escaping (String) -> Void = { _ in },
        onEnd: @escaping (_ member: String?, Failure?) throws -> Void
    ) throws -> Follower {
        let follower = try Follower(
            .unpack, try JSON(encoding: unpack), files: [file, output], user: request.worker,
            addressSpace: FetchWorker.unpackingMemory, loop: loop)
        var member: String?
        var failure: Failure?
        follower.onMessage = { [request] in
            if let written = $0["written"]?.integer { onWritten(UInt64(written)) }
            if let name = $0["unpacked"]?.string { member = name }
            if let name = $0["removed"]?.string { onRemoved(name) }
            if let said = $0["failed"] {
                failure = try said.decode(Failure.self)
                failure?.subject = request.shown
            }
        }
        follower.onEnd = { [request] words in
            let crash = words.map { Failure(.image, "unpack", request.shown, $0) }
            try onEnd(member, failure ?? crash)
        }
        return follower
    }

    // MARK: - By URL

    private func fetch(_ address: Address, _ known: ImageCache.Entry?, _ expected: Digest?) throws {
        if request.lazySocket != nil, try fetchLazily(address, known, expected) { return }
        let part = try PartialFile(cache.partPath(stem), source: address.shown, trustsCrash: expected != nil)
        let transfer = Transfer(
            address, request.web, web: web!, loop: loop, into: part, known: known?.record.validators)
        let arrival = Arrival(self, part, expected)
        var outcome: Transfer.Outcome?
        transfer.onNote = { [self] in say(.note("\(address.shown): \($0)")) }
        transfer.onBytes = { [self] in
            meter.add($0)
            transfer.rate = meter.rate
            saveSoon(part)
            try arrival.advance()
            tell(.fetching, part)
        }
        transfer.onTrouble = { [self] in tell($0 == nil ? .fetching : .stalled, part, always: true) }
        transfer.onReset = { arrival.reset() }
        transfer.onOutcome = { outcome = $0 }
        do {
            try transfer.start()
            try loop.run { outcome != nil }
            switch outcome! {
            case .notModified:
                PartialFile.remove(part.path)
                arrival.reset()
                return try use(known!, expected)
            case .failed(let failure, let isAbsence):
                arrival.reset()
                if part.present.count == 0 { PartialFile.remove(part.path) }
                if isAbsence, let known { return try fallBack(to: known, expected, failure) }
                throw failure
            case .whole: try arrival.finish()
            }
        } catch let failure as Failure where failure.kind != .fetch {
            arrival.discard()
            throw failure
        }
    }

    /// Also when nothing more comes.
    private func saveSoon(_ part: PartialFile) {
        guard saving == nil else { return }
        saving = loop.after(.milliseconds(20)) { [self] in
            saving = nil
            if part.hasUnsaved { try part.save() }
        }
    }

    func tell(_ state: FetchProgress.State, _ part: PartialFile, always: Bool = false) {
        guard always || meter.isDue else { return }
        say(.progress(FetchProgress(state: state, done: part.present.count, total: part.length, rate: meter.rate)))
    }

    /// The name of this state of the file, which must be known before the digest is.
    private func version(_ validators: Validators, begun: Int64) -> UInt64 {
        let mark = [validators.etag, validators.lastModified, validators.length.map(String.init)]
        return stableDigest("version", mark.compactMap(\.self).joined(separator: "\0"), "\(begun)")
    }

    /// Gives the finished file its name, and tells of it; then makes sure of what is only in memory yet.
    private func publish(
        _ path: String, begun: Int64, record: ImageCache.Record, announce: (DiskImage) throws -> Void,
        content: () throws -> Digest? = { nil }
    ) throws {
        var record = record
        record.image.path = cache.diskPath(stem, version: version(record.validators, begun: begun))
        (record.image.source, record.image.modified, record.image.served) = (request.shown, begun, nil)
        try cache.write(record, for: record.image.path)
        let file = try open(path)
        do throws(Errno) {
            try PartialFile.stamp(file.raw, begun)
            try Errno.check { rename(path, record.image.path) }
        } catch {
            throw Failure(.host, "rename to", record.image.path, error)
        }
        PartialFile.remove(cache.partPath(stem))
        try announce(record.image)
        record.content = try content()
        if fdatasync(file.raw) == 0 { record.boot = nil }
        try cache.write(record, for: record.image.path)
    }

    private func record(
        _ image: DiskImage, _ validators: Validators, _ digest: Digest?, packer: String? = nil, member: String? = nil
    ) -> ImageCache.Record {
        ImageCache.Record(
            source: request.shown, validators: validators, digest: digest, packer: packer, member: member, image: image,
            fetched: Int64(time(nil)), boot: PartialFile.boot)
    }

    func publish(
        _ unpacking: Unpacking, _ validators: Validators, digest: Digest?, packer: String?, member: String?
    ) throws {
        let image = try inspect(unpacking.path)
        try publish(
            unpacking.path, begun: image.modified,
            record: record(image, validators, digest, packer: packer, member: member),
            announce: { say(.ready($0)) }, content: { try unpacking.content() })
    }

    func publish(_ part: PartialFile, digest: Digest?) throws {
        let image = try inspect(part.path)
        try publish(
            part.path, begun: part.record.begun, record: record(image, part.record.validators, digest),
            announce: { say(.ready($0)) })
    }

    // MARK: - A packed file

    private func unpack(file path: String, _ known: ImageCache.Entry?, _ expected: Digest?) throws {
        let (status, head) = try ImageInspection.open(path)
        let validators = Validators(
            lastModified: "\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)", length: UInt64(status.st_size))
        if expected == nil, let known, known.record.validators == validators { return try use(known, nil) }
        let file = try open(path)
        let unpacking = try Unpacking(self, file.raw, head)
        var digest: Digest?
        let follower = try follow(file.raw, expected?.algorithm ?? .sha256) { digest = $0 }
        do {
            follower.tellEnd(UInt64(status.st_size))
            unpacking.follower.tellEnd(UInt64(status.st_size))
            unpacking.onWritten = { [self] in
                meter.add(Int($0) - Int(meter.count))
                if meter.isDue { say(.progress(FetchProgress(state: .unpacking, done: $0, rate: meter.rate))) }
            }
            try loop.run { digest != nil }
            if let expected { try compare(digest!, expected) }
            let member = try unpacking.finish()
            try publish(unpacking, validators, digest: digest, packer: head.packer, member: member)
        } catch {
            unpacking.discard()
            throw error
        }
    }

    func inspect(_ path: String) throws -> DiskImage {
        do {
            return try ImageInspection(path, format: request.format, qemuImg: request.qemuImg, loop: loop).finish()
        } catch var failure as Failure {
            failure.subject = request.shown
            throw failure
        }
    }

    // MARK: - Lazily

    /// Whether it can be done so; if not, it was said why.
    private func fetchLazily(_ address: Address, _ known: ImageCache.Entry?, _ expected: Digest?) throws -> Bool {
        let known = request.isContinued ? nil : known?.record.validators
        switch try LazyProbe(address, web!, known: known, loop).ask() {
        case .notModified: return false
        case .trouble:
            guard request.isContinued else { return false }
            // A machine waits for it, however long that takes.
            try pause(request.web.sleep + request.web.tick)
            return try fetchLazily(address, nil, expected)
        case .no(let why):
            if request.isContinued { throw Failure(.fetch, "go on fetching", address.shown, why) }
            say(.note("\(address.shown): \(why), so it is fetched before the machine boots"))
            return false
        case .yes(let validators, let bytes):
            let head = DiskHead(Array(bytes.prefix(DiskHead.size)))
            if let packer = head.packer, request.format == nil {
                say(
                    .note(
                        "\(address.shown): it is packed (\(packer)), so it is fetched and unpacked before the machine boots"
                    ))
                return false
            }
            let part = try PartialFile(cache.partPath(stem), source: address.shown, trustsCrash: expected != nil)
            if part.length == nil || !part.record.validators.isSameFile(as: validators) {
                if request.isContinued {
                    throw Failure(
                        .fetch, "go on fetching", address.shown, "the file was changed on the server",
                        remedy: "stop the machine and start it again, to have the new one")
                }
                try part.reset(validators)
            }
            try bytes.withUnsafeBytes { try part.write($0, at: 0) }
            try serve(part, address, head, expected)
            return true
        }
    }

    private func serve(_ part: PartialFile, _ address: Address, _ head: DiskHead, _ expected: Digest?) throws {
        let length = part.length!
        try checkSpace(part)
        do throws(Errno) { try Errno.check { ftruncate(part.file.raw, off_t(length)) } } catch {
            throw Failure(.host, "write", part.path, error)
        }
        let server = try NBDServer(
            request.lazySocket!, owner: request.lazyOwner, file: part.file.raw, length: length, loop: loop)
        let transfer = Transfer(address, request.web, web: web!, loop: loop, into: part, known: nil)
        let algorithm = expected?.algorithm ?? .sha256
        var digest: Digest?
        var outcome: Transfer.Outcome?
        let kept = part.record.digest.flatMap { $0.offset <= part.frontier ? $0 : nil }
        let follower = try follow(part.file.raw, algorithm, from: kept, onState: part.setDigest) { digest = $0 }
        server.isThere = { part.present.contains($0) }
        server.onWait = { try transfer.want($0) }
        var isStalled = false
        transfer.onNote = { [self] in say(.note("\(address.shown): \($0)")) }
        transfer.onTrouble = { [self] in
            isStalled = $0 != nil
            tell(isStalled ? .stalled : .fetching, part, always: true)
        }
        transfer.onBytes = { [self] in
            meter.add($0)
            transfer.rate = meter.rate
            saveSoon(part)
            follower.tell(part.frontier)
            try server.serve()
            tell(isStalled ? .stalled : .fetching, part)
        }
        transfer.onOutcome = { outcome = $0 }
        try transfer.startLazily()
        if !request.isContinued {
            var image = DiskImage(
                path: part.path, format: .iso, virtualSize: ByteCount(length), isBlockDevice: false, fileSize: length,
                allocated: length, modified: part.record.begun)
            let target = "nbd+unix:///?socket=\(request.lazySocket!)"
            do {
                image = try ImageInspection(
                    image, head, target: target, format: request.format, qemuImg: request.qemuImg, loop: loop
                ).finish()
            } catch var failure as Failure {
                failure.subject = address.shown
                if failure.kind != .fetch { PartialFile.remove(part.path) }
                throw failure
            }
            // Where it is going to be.
            image.path = cache.diskPath(stem, version: version(of: part))
            (image.source, image.served) = (request.shown, request.lazySocket)
            say(.served(image))
        }
        try loop.run { outcome != nil }
        if case .failed(let failure, _) = outcome! { throw failure }
        follower.tellEnd(length)
        tell(.checking, part, always: true)
        try loop.run { digest != nil }
        if let expected, digest != expected {
            PartialFile.remove(part.path)
            do { try compare(digest!, expected) } catch { say(.failed(error)) }
            // The machine is told, and still reads.
            try loop.run { false }
        }
        let image = try inspect(part.path)
        try publish(
            part.path, begun: part.record.begun, record: record(image, part.record.validators, digest),
            announce: { _ in say(.whole) })
        let held = try ImageCache.hold(cache.diskPath(stem, version: version(of: part)))
        lock?.release()
        try loop.run { false }
        withExtendedLifetime((held, server, transfer, follower)) {}
    }

    private func version(of part: PartialFile) -> UInt64 {
        version(part.record.validators, begun: part.record.begun)
    }

    func checkSpace(_ part: PartialFile) throws(Failure) {
        guard let length = part.length, let free = Files.freeSpace(cache.folder) else { return }
        let missing = length - min(length, part.present.count)
        if missing <= free.bytes { return }
        throw Failure(
            .noSpace, "fetch", request.shown, "it takes \(ByteCount(missing)), and \(cache.folder) has \(free) free",
            remedy: "make room there, or choose another place with --cache")
    }
}

extension ImageCache.Entry {
    func belongs(to source: String) -> Bool { stem.dropLast(9) == source }

    fileprivate var age: String {
        let seconds = max(0, Int64(time(nil)) - record.fetched)
        let days = seconds / 86400
        return days > 0 ? "\(days) days ago" : seconds >= 3600 ? "\(seconds / 3600) h ago" : "\(seconds / 60) min ago"
    }
}

/// How much comes in a second.
private struct Meter {
    private(set) var rate: UInt64 = 4 << 20
    private(set) var count: UInt64 = 0
    private var last = ContinuousClock.now
    private var sinceLast: UInt64 = 0
    private var told = ContinuousClock.now

    mutating func add(_ bytes: Int) {
        count &+= UInt64(max(0, bytes))
        sinceLast += UInt64(max(0, bytes))
        let now = ContinuousClock.now
        guard now - last >= .milliseconds(250) else { return }
        let parts = (now - last).components
        let seconds = Double(parts.seconds) + Double(parts.attoseconds) / 1e18
        let current = Double(sinceLast) / seconds
        rate = count == sinceLast ? UInt64(current) : UInt64(Double(rate) * 0.6 + current * 0.4)
        (last, sinceLast) = (now, 0)
    }

    /// Often enough for eyes.
    var isDue: Bool {
        mutating get {
            let now = ContinuousClock.now
            guard now - told >= .milliseconds(200) else { return false }
            told = now
            return true
        }
    }
}

/// What is done with a file's bytes while they come.
private final class Arrival {
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
        let kept = part.record.digest.flatMap { $0.offset <= part.frontier ? $0 : nil }
        digesting = try worker.follow(
            part.file.raw, expected?.algorithm ?? .sha256, from: kept,
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
        guard let unpacking else { return try worker.publish(part, digest: digest) }
        let member = try unpacking.finish()
        try worker.publish(
            unpacking, part.record.validators, digest: digest, packer: head?.packer, member: member)
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
            onRemoved: { [unowned self] in removed.append($0) },
            onEnd: { [unowned self] in
                (member, failure, isOver) = ($0, $1, true)
            })
    }

    /// Waits for the disk; the member that it was.
    func finish() throws -> String? {
        try worker.loop.run { isOver }
        if let failure { throw failure }
        digesting.tellEnd(UInt64(lseek(output.raw, 0, SEEK_END)))
        return member
    }

    func content() throws -> Digest? {
        try worker.loop.run { digest != nil }
        return digest
    }

    func discard() {
        follower.stop()
        digesting.stop()
        unlink(path)
    }
}
