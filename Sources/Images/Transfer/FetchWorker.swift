import CLinux
import Glibc
import Model
import System
import Values

/// The process that brings one image into the cache: transfer, digest and unpacking side by side, each in a process of
/// its own; the launcher has none of their libraries in its memory and none of their risks.
package final class FetchWorker {
    let request: FetchRequest
    let cache: ImageCache
    let stem: String
    let loop: EventLoop
    private var openWeb: Web?
    private(set) var lock: ImageCache.Lock?
    /// A machine reads here.
    var isServing = false
    var meter = Meter()

    package static func run() throws -> Int32 {
        let text = try Descriptor(dup(STDIN_FILENO)).readAll(limit: 1 << 20)
        let request = try JSON(parsing: text).decode(FetchRequest.self)
        do {
            let worker = try FetchWorker(request)
            defer { worker.lock?.release() }
            do { try worker.fetch() } catch let killed as Follower.WasKilled {
                // The launcher starts another of this process, where a machine reads what it brings.
                if worker.isServing { return FailureKind.fetch.rawValue }
                throw Failure(
                    .fetch, "fetch", request.shown, killed.words, remedy: "start again: it goes on where it was")
            }
            return 0
        } catch {
            let failure = (error as? Absence)?.failure ?? Failure.from(error, "fetch", request.shown)
            say(.failed(failure))
            return failure.kind.rawValue
        }
    }

    private init(_ request: FetchRequest) throws {
        self.request = request
        cache = ImageCache(folder: request.cache)
        var source = request.shown
        if case .url(let address) = request.source { source = address.withoutLogin }
        // Another member of an archive is another image, and so is the same file taken for another format.
        source += (request.member.map { "\0member \($0)" } ?? "") + (request.format.map { "\0format \($0)" } ?? "")
        stem = ImageCache.stem(name: request.fileName, source: source)
        loop = try EventLoop()
    }

    /// libcurl is loaded once it is needed.
    func web() throws(Failure) -> Web {
        if let openWeb { return openWeb }
        let web = try Web(request.web, loop: loop)
        openWeb = web
        return web
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
        if request.cacheIsDefault { try cache.refuseStrangers() }
        if let image = request.continued, case .url(let address) = request.source {
            return try goOn(serving: image, address)
        }
        try takeLock()
        if request.cacheIsDefault { try cache.refuseStrangers() }
        var known = cache.newest(stem, of: request.shown)
        let expected: Digest?
        do { expected = try expectedDigest() } catch let absence as Absence {
            // Only what was found right by the same list can stand in for its word.
            guard let known, known.record.checkedBy == checkedBy else { throw absence.failure }
            return try fallBack(to: known, nil, absence.failure)
        }
        // Of what was packed with a digest of the other kind, nobody can say whether it is what is wanted.
        if let expected, let there = known?.record, there.packer != nil,
            there.digest?.algorithm != expected.algorithm
        {
            known = nil
        }
        // A digest says better than any server whether it is the one.
        if let expected, let right = cache.newest(stem, of: request.shown, with: expected) {
            return try use(right, expected)
        }
        switch request.source {
        case .url(let address): try fetch(address, known, expected)
        case .file(let path): try unpack(file: path, known, expected)
        case .oci(let path, let tag): try OCIFetch(worker: self, path: path, tag: tag).run(known, expected)
        }
    }

    private func takeLock() throws(Failure) {
        lock = try cache.lock(stem) { [self] in
            say(.note("another snabbvm is fetching \(request.shown): waiting for it"))
            return true
        }
    }

    /// A machine reads already, and is served what is here as long as another process has the lock.
    func takeLock(serving image: DiskImage) throws {
        lock = try cache.lock(stem)
        if lock != nil { return }
        say(.note("another snabbvm is fetching \(request.shown): the machine reads what it brings"))
        let reading = try PartReader(cache.partPath(stem), image)
        let server = try NBDServer(request, file: reading.file.raw, length: image.fileSize, loop: loop)
        server.isThere = { reading.spans.contains($0) }
        while lock == nil {
            var isOver = false
            loop.after(.milliseconds(200)) { isOver = true }
            try loop.run { isOver }
            reading.look()
            server.serve()
            lock = try cache.lock(stem)
        }
        server.close()
    }

    /// A disk as it is, which need not be in the cache.
    private func checkFile(_ path: String) throws {
        let inspection = try ImageInspection(path, format: request.format, qemuImg: request.qemuImg, loop: loop)
        if let expected = try expectedDigest() { try compare(file: path, expected) }
        say(.ready(try inspection.finish()))
    }

    func open(_ path: String) throws(Failure) -> HeldDescriptor {
        try HeldDescriptor(opening: path, O_RDONLY | O_NOCTTY, .image, "read image")
    }

    func use(_ entry: ImageCache.Entry, _ expected: Digest?) throws {
        if let expected, let found = entry.record.digest {
            if found.algorithm == expected.algorithm {
                try compare(found, expected, "it is the one in the cache, \(entry.stem), and its server has no other")
            } else {
                try compare(file: entry.path, expected)
            }
            if entry.record.checkedBy != checkedBy {
                var record = entry.record
                record.checkedBy = checkedBy
                try cache.write(record, for: entry.path)
            }
        }
        say(.ready(entry.image))
    }

    private func fallBack(to entry: ImageCache.Entry, _ expected: Digest?, _ failure: Failure) throws {
        let age = Elapsed.age(since: entry.record.fetched, now: Files.timeNow)
        say(.warning("\(failure.line); taking the one that was fetched \(age)"))
        try use(entry, expected)
    }

    func compare(file path: String, _ expected: Digest) throws {
        let file = try open(path)
        let digesting = try Digesting(self, file.raw, expected.algorithm)
        digesting.tellEnd(file.size)
        try compare(try digesting.wait(), expected, "nothing boots")
    }

    // MARK: - By URL

    private func fetch(_ address: ImageURL, _ known: ImageCache.Entry?, _ expected: Digest?) throws {
        if expected == nil, address.isOpen {
            say(
                .warning(
                    "\(address.shown): by \(address.scheme) and without --checksum, anybody on the way can put in another"
                        + " image"))
        }
        if request.lazySocket != nil, try fetchLazily(address, known, expected) { return }
        let web = try web()
        let part = try PartialFile(cache.partPath(stem), source: address.shown, trustsCrash: expected != nil)
        let arrival = Arrival(self, part, expected)
        let transfer = Transfer(
            self, address, web: web, into: part, known: known?.record.validators, asksAtEnd: expected == nil)
        transfer.onBytes = { try arrival.advance() }
        transfer.onReset = arrival.reset
        do {
            try transfer.start()
            let outcome = try transfer.wait()
            if case .whole = outcome { return try arrival.finish() }
            arrival.reset()
            if part.present.count == 0 { PartialFile.remove(part.path) }
            switch outcome {
            case .whole: break
            case .notModified: try use(known!, expected)
            case .failed(let failure, let isAbsence):
                guard isAbsence, let known else { throw failure }
                try fallBack(to: known, expected, failure)
            }
        } catch var failure as Failure where failure.kind == .noSpace {
            // What is here took its time.
            arrival.reset()
            part.saveWithoutRoom()
            failure.remedy =
                "make room there, or choose another place with --cache; what is here of it stays for the next start"
                + " (snabbvm images rm \(stem) drops it)"
            throw failure
        } catch let failure as Failure where failure.kind != .fetch {
            arrival.reset()
            PartialFile.remove(part.path)
            // What the host lost when it crashed is not the server's fault.
            if failure.kind == .checksum, part.isOfOtherBoot { return try fetch(address, known, expected) }
            throw failure
        }
    }

    func tell(_ state: FetchProgress.State, _ part: PartialFile, always: Bool = false) {
        guard always || meter.isDue() else { return }
        say(.progress(FetchProgress(state: state, done: part.present.count, total: part.length, rate: meter.rate)))
    }

    func checkSpace(_ part: PartialFile) throws(Failure) {
        guard let length = part.length, let free = Files.freeSpace(cache.folder) else { return }
        let missing = length - min(length, part.present.count)
        if missing <= free.bytes { return }
        throw Failure(
            .noSpace, "fetch", request.shown, "it takes \(ByteCount(missing)), and \(cache.folder) has \(free) free",
            remedy: "make room there, or choose another place with --cache")
    }

    // MARK: - A packed file

    private func unpack(file path: String, _ known: ImageCache.Entry?, _ expected: Digest?) throws {
        let (status, head) = try ImageInspection.open(path)
        let validators = Validators(
            lastModified: "\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)", length: UInt64(status.st_size))
        if expected == nil, let known, known.record.validators == validators { return try use(known, nil) }
        let file = try open(path)
        let unpacking = try Unpacking(self, file.raw, UnpackRequest(request))
        unpacking.onWritten = { [self] in
            meter.add(Int(clamping: $0) - Int(clamping: meter.count))
            if meter.isDue() { say(.progress(FetchProgress(state: .unpacking, done: $0, rate: meter.rate))) }
        }
        try unpacking.take(whole: file, UInt64(status.st_size), expected, validators, packer: head.packer)
    }

    // MARK: - Into the cache

    /// The name of this state of the file, which must be known before the digest is.
    func diskPath(_ validators: Validators, begun: Int64) -> String {
        let mark = [validators.etag, validators.lastModified, validators.length.map(String.init)]
        let version = stableDigest("version", mark.compactMap(\.self).joined(separator: "\0"), "\(begun)")
        return "\(cache.folder)/\(stem)-\(hexadecimal(version >> 32, digits: 8))\(ImageCache.diskSuffix)"
    }

    /// Gives the finished file its name, and tells of it; then makes sure of what is only in memory yet. What was
    /// unpacked says from what, and has another digest that follows it.
    func publish(
        _ path: String, begun: Int64, _ validators: Validators, _ digest: Digest?, packer: String? = nil,
        member: String? = nil, _ digesting: Digesting? = nil
    ) throws {
        var record = ImageCache.Record(
            source: request.shown, validators: validators, digest: digest, packer: packer, member: member,
            image: DiskImage.placeholder, fetched: Files.timeNow, boot: PartialFile.boot, checkedBy: checkedBy)
        // A machine's disk keeps the name that it was told.
        if !isServing, try isThere(record) {
            unlink(path)
            return
        }
        do {
            record.image = try ImageInspection(
                path, format: request.format, qemuImg: request.qemuImg, loop: loop
            ).finish()
        } catch var failure as Failure {
            failure.subject = request.shown
            throw failure
        }
        record.image.path = diskPath(record.validators, begun: begun)
        (record.image.source, record.image.modified, record.image.served) = (request.shown, begun, nil)
        record.image.digest = record.digest?.description
        try cache.write(record, for: record.image.path)
        let file = try open(path)
        // The time that was promised for it.
        let time = timespec(tv_sec: Int(begun / 1_000_000_000), tv_nsec: Int(begun % 1_000_000_000))
        let name = record.image.path
        try Failure.naming(.host, "rename to", name, try Errno.check { futimens(file.raw, [time, time]) })
        try Failure.naming(.host, "rename to", name, try Errno.check { rename(path, name) })
        PartialFile.remove(cache.partPath(stem))
        say(isServing ? .whole : .ready(record.image(at: record.image.path)))
        record.content = try digesting?.wait()
        record.isContentWhole = record.content == nil ? nil : true
        let isSynced = withExtendedLifetime(file) { fdatasync(file.raw) == 0 }
        if isSynced, (try? Files.sync(cache.folder)) != nil { record.boot = nil }
        // It is there and right, whether or not this can be said as well.
        try? cache.write(record, for: record.image.path)
    }

    /// The same bytes under another tag or date: one copy is enough.
    private func isThere(_ record: ImageCache.Record) throws -> Bool {
        guard let digest = record.digest, var there = cache.newest(stem, of: request.shown, with: digest) else {
            return false
        }
        there.record.validators = record.validators
        there.record.fetched = record.fetched
        there.record.checkedBy = record.checkedBy
        try cache.write(there.record, for: there.path)
        PartialFile.remove(cache.partPath(stem))
        say(.ready(there.image))
        return true
    }
}

/// How much comes in a second.
struct Meter {
    private(set) var rate: UInt64 = 4 << 20
    private(set) var count: UInt64 = 0
    private var last = ContinuousClock.now
    private var sinceLast: UInt64 = 0
    private var told = ContinuousClock.now

    mutating func add(_ bytes: Int) {
        count &+= UInt64(max(0, bytes))
        sinceLast &+= UInt64(max(0, bytes))
        let now = ContinuousClock.now
        guard now - last >= .milliseconds(250) else { return }
        let current = Double(sinceLast) / ((now - last) / .seconds(1))
        rate = count == sinceLast ? UInt64(current) : UInt64(Double(rate) * 0.6 + current * 0.4)
        (last, sinceLast) = (now, 0)
    }

    /// Often enough for eyes.
    mutating func isDue() -> Bool {
        let now = ContinuousClock.now
        guard now - told >= .milliseconds(200) else { return false }
        told = now
        return true
    }
}
