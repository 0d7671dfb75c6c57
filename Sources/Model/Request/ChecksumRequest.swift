/// What --checksum says: the digest, or where a list of digests is.
package enum ChecksumRequest: Equatable {
    case literal(Digest)
    case list(String)

    /// Nil also for what is meant as a digest and is none, which would else be taken for the name of a list.
    package init?(_ text: String) {
        if text.isEmpty { return nil }
        let scheme = text.prefix { $0 != ":" }.lowercased()
        if scheme.count < text.count, Self.digestNames.contains(scheme) {
            guard let algorithm = DigestAlgorithm(rawValue: scheme),
                let digest = Digest(algorithm, hex: text.dropFirst(scheme.count + 1))
            else { return nil }
            self = .literal(digest)
        } else if let digest = Digest(hex: text) {
            self = .literal(digest)
        } else {
            self = .list(text)
        }
    }

    /// As it was given.
    package var text: String {
        switch self {
        case .literal(let digest): digest.description
        case .list(let place): place
        }
    }

    private static let digestNames: Set = [
        "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha-1", "sha-256", "sha-512", "sha3-256", "sha3-512",
        "blake2b", "blake2s", "blake3", "crc32",
    ]
}
