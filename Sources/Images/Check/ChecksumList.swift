import Model
import Values

/// A file of digests as distributions publish them beside their images: SHA256SUMS, CHECKSUM, image.qcow2.sha256.
struct ChecksumList {
    private struct Entry {
        var digest: Digest
        /// Without the `./` that some tools put before it; nil where the file has a digest and no name.
        var name: String?

        init(_ digest: Digest, _ text: Substring) {
            let name = withoutDot(String(text))
            self.digest = digest
            self.name = name.isEmpty || name == "-" ? nil : name
        }
    }

    private var entries: [Entry] = []

    // The list comes from a server: real ones have a few hundred short lines.
    private static let mostBytes = 8 << 20
    private static let mostEntries = 100_000
    private static let longestLine = 4096

    /// How many digests it holds that can be used.
    var count: Int { entries.count }

    init(_ text: String) {
        var text = text
        for line in Self.lines(text.withUTF8 { Array($0.prefix(Self.mostBytes)) })
        where line.count <= Self.longestLine && entries.count < Self.mostEntries {
            let text = String(decoding: line, as: UTF8.self).trimmed
            guard !text.hasPrefix("#"), let entry = Self.hexFirst(text) ?? Self.tagFirst(text) else { continue }
            entries.append(entry)
        }
    }

    /// The digest of a file by this name or path, the longer digest if there are two. Nil too where the list
    /// contradicts itself, since either of its words could be the wrong one.
    func digest(for name: String) -> Digest? {
        let wanted = Self.withoutDot(name)
        let last = "/" + (wanted.split(separator: "/").last ?? "")
        var matches = entries.filter { $0.name == wanted }
        if matches.isEmpty { matches = entries.filter { $0.name.map { "/\($0)".hasSuffix(last) } == true } }
        // A digest alone is about whatever it lies beside; among names it could be about anything.
        if matches.isEmpty, entries.allSatisfy({ $0.name == nil }) { matches = entries }
        for algorithm in [DigestAlgorithm.sha512, .sha256] {
            let digests = Set(matches.map(\.digest).filter { $0.algorithm == algorithm })
            if !digests.isEmpty { return digests.count == 1 ? digests.first : nil }
        }
        return nil
    }

    private static func withoutDot(_ name: String) -> String {
        name.hasPrefix("./") ? String(name.dropFirst(2)) : name
    }

    /// `HEX  name`, `HEX *name`, `HEX  -`, `HEX`.
    private static func hexFirst(_ line: String) -> Entry? {
        let digits = line.prefix { !$0.isWhitespace }
        guard let digest = Digest(hex: digits) else { return nil }
        let name = line.dropFirst(digits.count).drop(while: \.isWhitespace)
        return Entry(digest, name.hasPrefix("*") ? name.dropFirst() : name)
    }

    private static let tags: [String: DigestAlgorithm] = [
        "SHA256": .sha256, "SHA2-256": .sha256, "SHA512": .sha512, "SHA2-512": .sha512,
    ]

    /// `SHA512 (name) = HEX` of BSD, `SHA2-512(name)= HEX` of OpenSSL.
    private static func tagFirst(_ line: String) -> Entry? {
        guard let open = line.firstIndex(of: "("), let close = line.lastIndex(of: ")"), open < close,
            let algorithm = tags[String(line[..<open]).trimmed.uppercased()]
        else { return nil }
        let rest = String(line[close...].dropFirst()).trimmed
        guard rest.hasPrefix("="), let digest = Digest(algorithm, hex: String(rest.dropFirst()).trimmed) else {
            return nil
        }
        return Entry(digest, line[open..<close].dropFirst())
    }

    static let signedMark = "-----BEGIN PGP SIGNED MESSAGE-----"

    /// The lines of a text, or of its signed part if there is one: what stands around that part, nobody vouches for.
    private static func lines(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        let mark: [UInt8] = [0xef, 0xbb, 0xbf]
        let rest = bytes.starts(with: mark) ? bytes.dropFirst(mark.count) : bytes[...]
        let most = 4 * mostEntries
        let split = rest.split(separator: 0x0a, maxSplits: most, omittingEmptySubsequences: false).prefix(most)
        let all = split.map { $0.last == UInt8(ascii: "\r") ? $0.dropLast() : $0 }
        let start = all.firstIndex { $0.starts(with: signedMark.utf8) }
        guard let start else { return all }
        // After the armor's own headers and an empty line, up to the signature.
        let content = all[start...].drop { !$0.isEmpty }.prefix { line in
            !line.starts(with: "-".utf8) || line.starts(with: "- ".utf8)
        }
        return content.map { $0.starts(with: "- ".utf8) ? $0.dropFirst(2) : $0 }
    }
}
