package enum DigestAlgorithm: String, Codable, CaseIterable {
    case sha256
    case sha512

    var hexDigits: Int { self == .sha256 ? 64 : 128 }
}

/// What a file's content must be.
package struct Digest: Codable, Equatable, Hashable, CustomStringConvertible {
    package var algorithm: DigestAlgorithm
    /// In lower case.
    package var hex: String

    /// What was computed.
    package init(algorithm: DigestAlgorithm, hex: String) {
        self.algorithm = algorithm
        self.hex = hex.lowercased()
    }

    /// What somebody wrote.
    package init?(_ algorithm: DigestAlgorithm, hex: some StringProtocol) {
        guard hex.utf8.count == algorithm.hexDigits, hex.allSatisfy({ $0.isASCII && $0.isHexDigit }) else { return nil }
        self.init(algorithm: algorithm, hex: String(hex))
    }

    /// Tells the algorithm by the number of digits.
    package init?(hex: some StringProtocol) {
        guard let algorithm = DigestAlgorithm.allCases.first(where: { $0.hexDigits == hex.utf8.count }) else {
            return nil
        }
        self.init(algorithm, hex: hex)
    }

    /// As `description` writes it.
    package init?(text: String) {
        let parts = text.split(separator: ":", maxSplits: 1)
        guard parts.count == 2, let algorithm = DigestAlgorithm(rawValue: String(parts[0])) else { return nil }
        self.init(algorithm, hex: parts[1])
    }

    package var description: String { "\(algorithm.rawValue):\(hex)" }
}
