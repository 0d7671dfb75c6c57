import Model
import System
import Values

/// A machine boots at once, and reads here what is not all here yet.
extension FetchWorker {
    /// Whether it can be done so; if not, it was said why, or a plain fetch says it better.
    func fetchLazily(_ address: ImageURL, _ known: ImageCache.Entry?, _ expected: Digest?) throws -> Bool {
        guard let (validators, bytes) = try probe(address, known?.record.validators) else { return false }
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
        try serve(part, address, expected) {
            var image = try inspectServed(part, head, address)
            image.digest = expected?.description
            isServing = true
            say(.served(image, expected))
        }
        return true
    }

    /// The process that served it has died, and the machine still reads.
    func goOn(serving image: DiskImage, _ address: ImageURL) throws {
        isServing = true
        try serveWhole(image)
        try takeLock(serving: image)
        // Whoever had the lock may have brought the rest.
        try serveWhole(image)
        let expected = try expectedDigest()
        let part = try PartialFile(cache.partPath(stem), source: address.shown, trustsCrash: false)
        guard part.length == image.fileSize, part.record.begun == image.modified else {
            throw Failure(
                .fetch, "go on fetching", address.shown, "what was here of it is gone",
                remedy: "start the machine again")
        }
        try serve(part, address, expected) {}
    }

    /// As long as the machine runs, where all of it is here: it needs nobody's lock.
    private func serveWhole(_ image: DiskImage) throws {
        guard let held = try? ImageCache.hold(image.path) else { return }
        let server = try NBDServer(request, file: held.raw, length: image.fileSize, loop: loop)
        say(.whole)
        lock?.release()
        try loop.run { false }
        withExtendedLifetime((server, held)) {}
    }

    // MARK: - Looking whether it can be done

    /// Looks whether a machine can boot from the file while it comes, and takes its first bytes.
    private func probe(_ address: ImageURL, _ known: Validators?) throws -> (Validators, [UInt8])? {
        let refuse = { (why: String) -> (Validators, [UInt8])? in
            say(.note("\(address.shown): \(why), so it is fetched before the machine boots"))
            return nil
        }
        if address.isFTP { return refuse("FTP has no way to ask for parts of a file") }
        let conditions = known?.onlyIfChanged ?? []
        // First without content: who knows no ranges would send all of it.
        let about = try WebRequest(address, in: try web(), conditions: conditions, headOnly: true)
        if try about.wait() != nil || about.head.status == 304 { return nil }
        if about.head.status == 200, about.head.fields["accept-ranges"]?.lowercased() != "bytes" {
            return refuse("its server sends no parts of a file")
        }
        let size: UInt64 = 64 << 10
        let request = try WebRequest(address, in: try web(), range: (0, size), conditions: conditions)
        var bytes: [UInt8] = []
        request.onHead = { $0.status == 206 }
        request.onBody = {
            bytes += $0
            return bytes.count <= size
        }
        if try request.wait() != nil { return nil }
        let head = request.head
        if head.status == 200 { return refuse("its server sends no parts of a file") }
        if head.status != 206 { return nil }
        guard let range = head.contentRange, let total = range.total, range.range.lowerBound == 0 else {
            return refuse("its server does not say how long it is")
        }
        let validators = head.validators
        if validators.condition == nil { return refuse("its server does not say when the file is changed") }
        if let kept = self.request.keptVersion, kept != validators.version {
            return refuse("whether it is still what the kept disk stands on only all of it can tell")
        }
        return (validators, Array(bytes.prefix(Int(min(total, range.range.upperBound)))))
    }

    /// What it is, as the machine is going to read it.
    private func inspectServed(_ part: PartialFile, _ head: DiskHead, _ address: ImageURL) throws -> DiskImage {
        let length = part.length ?? 0
        var image = DiskImage(path: part.path, format: .iso, length: length, modified: part.record.begun)
        do {
            let target = "nbd+unix:///?socket=\(request.lazySocket!)"
            image = try ImageInspection(
                image, head, target: target, format: request.format, qemuImg: request.qemuImg, loop: loop
            ).finish()
        } catch var failure as Failure {
            failure.subject = address.shown
            if failure.kind != .fetch { PartialFile.remove(part.path) }
            throw failure
        }
        // Where it is going to be.
        image.path = diskPath(part.record.validators, begun: part.record.begun)
        (image.source, image.served, image.version) = (
            request.shown, request.lazySocket, part.record.validators.version
        )
        return image
    }

    // MARK: - Serving it

    /// As long as the machine runs; `announce` comes once it can be read.
    private func serve(
        _ part: PartialFile, _ address: ImageURL, _ expected: Digest?, announce: () throws -> Void
    ) throws {
        let length = part.length ?? 0
        try Failure.naming(.host, "write", part.path, try part.file.descriptor.truncate(to: length))
        let server = try NBDServer(request, file: part.file.raw, length: length, loop: loop)
        let transfer = Transfer(
            self, address, web: try web(), into: part, isLazy: true, asksAtEnd: expected == nil)
        let digesting = try Digesting(self, part.file.raw, expected?.algorithm ?? .sha256, of: part)
        server.isThere = { part.present.contains($0) }
        server.onWait = transfer.want
        transfer.onBytes = {
            digesting.tell(part.frontier)
            server.serve()
        }
        try transfer.start()
        try announce()
        switch try transfer.wait() {
        case .whole where part.isWhole: break
        case .failed(let failure, _): throw failure
        case .whole, .notModified:
            throw Failure(.fetch, "fetch", address.shown, "its server says that it is all here, and it is not")
        }
        digesting.tellEnd(length)
        tell(.checking, part, always: true)
        let digest = try digesting.wait()
        let (validators, begun) = (part.record.validators, part.record.begun)
        do {
            if let expected { try compare(digest, expected) }
            try publish(part.path, begun: begun, validators, digest)
        } catch let failure as Failure where [.checksum, .image].contains(failure.kind) {
            PartialFile.remove(part.path)
            say(.failed(failure))
        } catch let failure as Failure {
            // The image is right, and only its name can't be had.
            say(.warning("\(failure.line); the machine goes on, and the next start fetches what is missing"))
        }
        // The machine still reads, and others may fetch now.
        let held = try? ImageCache.hold(diskPath(validators, begun: begun))
        lock?.release()
        try loop.run { false }
        withExtendedLifetime((server, transfer, digesting, held)) {}
    }
}
