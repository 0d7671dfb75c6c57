import Model

/// A file of digests as distributions publish them beside their images: SHA256SUMS, CHECKSUM, image.qcow2.sha256.
struct ChecksumList {
    private struct Entry {
        var digest: Digest
        /// Without the `./` that some tools put before it; nil where the file has a digest and no name.
        var name: String?

        init(_ digest: Digest, _ bytes: ArraySlice<UInt8>) {
            let name = withoutDot(String(decoding: bytes, as: UTF8.self))
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
            if let entry = Self.entry(line) { entries.append(entry) }
        }
    }

    /// The digest of a file by this name or path, the longer digest if there are two. Nil too where the list
    /// contradicts itself, since either of its words could be the wrong one.
    func digest(for name: String) -> Digest? {
        let wanted = Self.withoutDot(name)
        let last = Self.lastPart(wanted)
        var matches = entries.filter { $0.name == wanted }
        if matches.isEmpty { matches = entries.filter { $0.name.map(Self.lastPart) == last } }
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

    private static func lastPart(_ name: String) -> String {
        name.lastIndex(of: "/").map { String(name[name.index(after: $0)...]) } ?? name
    }

    private static func entry(_ line: ArraySlice<UInt8>) -> Entry? {
        let line = line.trimmed
        guard let first = line.first, first != UInt8(ascii: "#") else { return nil }
        return hexFirst(line) ?? tagFirst(line)
    }

    /// `HEX  name`, `HEX *name`, `HEX  -`, `HEX`.
    private static func hexFirst(_ line: ArraySlice<UInt8>) -> Entry? {
        let digits = line.prefix(while: \.isHexDigit)
        var rest = line.dropFirst(digits.count)
        guard rest.first.map(\.isBlank) ?? true, let digest = Digest(hex: String(decoding: digits, as: UTF8.self))
        else { return nil }
        rest = rest.drop(while: \.isBlank)
        if rest.first == UInt8(ascii: "*") { rest = rest.dropFirst() }
        return Entry(digest, rest)
    }

    private static let tags: [String: DigestAlgorithm] = [
        "SHA256": .sha256, "SHA2-256": .sha256, "SHA512": .sha512, "SHA2-512": .sha512,
    ]

    /// `SHA512 (name) = HEX` of BSD, `SHA2-512(name)= HEX` of OpenSSL.
    private static func tagFirst(_ line: ArraySlice<UInt8>) -> Entry? {
        guard let open = line.firstIndex(of: UInt8(ascii: "(")), let close = line.lastIndex(of: UInt8(ascii: ")")),
            open < close, let algorithm = tags[String(decoding: line[..<open].trimmed, as: UTF8.self).uppercased()]
        else { return nil }
        let rest = line[(close + 1)...].trimmed
        guard rest.first == UInt8(ascii: "="),
            let digest = Digest(algorithm, hex: String(decoding: rest.dropFirst().trimmed, as: UTF8.self))
        else { return nil }
        return Entry(digest, line[open + 1..<close])
    }

    /// The lines of a text, or of its signed part if there is one: what stands around that part, nobody vouches for.
    private static func lines(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        let mark: [UInt8] = [0xef, 0xbb, 0xbf]
        var rest = bytes.starts(with: mark) ? bytes.dropFirst(mark.count) : bytes[...]
        var all: [ArraySlice<UInt8>] = []
        while !rest.isEmpty, all.count < 4 * mostEntries {
            var line = rest.prefix { $0 != UInt8(ascii: "\n") }
            rest = rest.dropFirst(line.count + 1)
            if line.last == UInt8(ascii: "\r") { line = line.dropLast() }
            all.append(line)
        }
        let start = all.firstIndex { $0.starts(with: "-----BEGIN PGP SIGNED MESSAGE-----".utf8) }
        guard let start else { return all }
        // After the armor's own headers and an empty line, up to the signature.
        let content = all[start...].drop { !$0.isEmpty }.prefix { line in
            !line.starts(with: "-".utf8) || line.starts(with: "- ".utf8)
        }
        return content.map { $0.starts(with: "- ".utf8) ? $0.dropFirst(2) : $0 }
    }
}

extension UInt8 {
    fileprivate var isBlank: Bool { self == 0x20 || self == 0x09 }

    fileprivate var isHexDigit: Bool { Character(UnicodeScalar(self)).isHexDigit }
}

extension ArraySlice<UInt8> {
    fileprivate var trimmed: ArraySlice<UInt8> {
        var part = drop(while: \.isBlank)
        while part.last?.isBlank == true { part.removeLast() }
        return part
    }
}
