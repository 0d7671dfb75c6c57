import Model
import System
import Values

/// What an image must be, by the user's word or that of a list.
extension FetchWorker {
    /// The server is away, or the network.
    struct Absence: Error { var failure: Failure }

    /// Who says what the image must be.
    var checkedBy: String? {
        request.checksum.map { "\(ImageURL($0)?.shown ?? $0)" + (request.keyring.map { " signed by \($0)" } ?? "") }
    }

    func compare(_ found: Digest, _ expected: Digest, _ consequence: String = "nothing of it was kept") throws(Failure)
    {
        if found == expected { return }
        throw Failure(
            .checksum, "use image", request.shown,
            "its \(found.algorithm.rawValue) is \(found.hex), and not \(expected.hex)",
            remedy: "\(consequence); see whether image and checksum belong together")
    }

    func expectedDigest() throws -> Digest? {
        guard let text = request.checksum else { return nil }
        switch ChecksumRequest(text) {
        case .literal(let digest): return digest
        case .list(let place): return try digestFromList(place)
        case nil: throw Failure(.usage, "use", "--checksum \(text)", "it is neither sha256:… nor sha512:… nor a list")
        }
    }

    private func digestFromList(_ place: String) throws -> Digest {
        let address = ImageURL(place)
        if let address { try address.refuseUnknown() }
        let shown = address?.shown ?? place
        guard var list = try text(place) else {
            let missing = Failure(.fetch, "fetch", shown, WebFailure(status: 404).words)
            throw address == nil ? Failure(.checksum, "read", place, Errno.notFound) : missing
        }
        if let keyring = request.keyring {
            list = try signed(list, by: keyring, named: shown) { try text(address?.adding($0).text ?? place + $0) }
        }
        let digests = ChecksumList(String(decoding: list, as: UTF8.self))
        guard let digest = digests.digest(for: request.fileName) else {
            throw Failure(
                .checksum, "find the checksum of", request.fileName,
                digests.count == 0
                    ? "\(shown) is no list of SHA-256 or SHA-512 digests"
                    : "\(shown) does not name it, or contradicts itself",
                remedy: "look whether it is the list for this file")
        }
        return digest
    }

    private static let longestText = 8 << 20

    /// A small file from anywhere; nil where there is none.
    private func text(_ place: String) throws -> [UInt8]? {
        let url = ImageURL(place)
        guard let address = url, address.scheme != "file" else {
            let path = url?.path ?? place
            do throws(Errno) { return try Files.read(path, limit: FetchWorker.longestText) } catch {
                if error == .notFound { return nil }
                throw Failure(.checksum, "read", path, error)
            }
        }
        var failures = 0
        while true {
            let (content, failure) = try ask(address)
            guard let failure else { return content }
            if failure.isMissing { return nil }
            failures += 1
            let most = cache.newest(stem, of: request.shown) == nil ? Int.max : 2
            guard failure.isPassing, failures < min(most, request.web.attempts) else {
                let final = Failure(.fetch, "fetch", address.shown, failure.words, remedy: failure.remedy)
                throw failure.isAbsence && failure.isPassing ? Absence(failure: final) as any Error : final
            }
            var isOver = false
            loop.after(.seconds(request.web.sleep + request.web.tick * Double(failures - 1))) { isOver = true }
            try loop.run { isOver }
        }
    }

    private func ask(_ address: ImageURL) throws -> ([UInt8], WebFailure?) {
        var content: [UInt8] = []
        // What the image's server is told is not for others.
        var isSameServer = false
        if case .url(let image) = request.source { isSameServer = image.origin == address.origin }
        let asked = try WebRequest(address, in: try web(), sendsHeaders: isSameServer)
        asked.onHead = { address.isFTP || $0.status == 200 }
        asked.onBody = {
            content += $0
            return content.count <= FetchWorker.longestText
        }
        let failure = try asked.wait()
        let status = asked.head.status
        return (content, failure ?? (address.isFTP || status == 200 ? nil : WebFailure(status: status)))
    }
}
