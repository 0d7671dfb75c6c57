/// An IPv4 or IPv6 address, with which one can count.
package struct IPAddress: Hashable, TextCodable {
    package enum Family: String, Codable {
        case four = "inet"
        case six = "inet6"

        package var bits: Int { self == .four ? 32 : 128 }
        package var isSix: Bool { self == .six }
    }

    package var family: Family
    package var value: UInt128

    package init(_ family: Family, _ value: UInt128) {
        self.family = family
        self.value = value
    }

    /// What inet_pton takes, and nothing else: no zone, no zeros before a number of IPv4.
    package init?(_ text: some StringProtocol) {
        family = text.contains(":") ? .six : .four
        guard let value = family.isSix ? IPAddress.six(Substring(text)) : IPAddress.four(Substring(text)) else {
            return nil
        }
        self.value = value
    }

    private static func four(_ text: Substring) -> UInt128? {
        let words = text.split(separator: ".", omittingEmptySubsequences: false)
        // A number with zeros before it is octal to some and decimal to others.
        let numbers = words.compactMap { $0.hasPrefix("0") && $0 != "0" ? nil : number($0, radix: 10) }
        guard words.count == 4, numbers.count == 4, numbers.allSatisfy({ $0 < 256 }) else { return nil }
        return numbers.reduce(0) { $0 << 8 | $1 }
    }

    private static func six(_ text: Substring) -> UInt128? {
        let halves = text.split(separator: "::", maxSplits: 2, omittingEmptySubsequences: false)
        guard halves.count <= 2, let high = groups(halves[0], isEnd: halves.count == 1),
            let low = halves.count == 1 ? [] : groups(halves[1], isEnd: true)
        else { return nil }
        let zeros = 8 - high.count - low.count
        guard halves.count == 1 ? zeros == 0 : zeros > 0 else { return nil }
        return (high + [UInt128](repeating: 0, count: zeros) + low).reduce(0) { $0 << 16 | $1 }
    }

    /// Of 16 bits each; at the end of an address two of them can be written as one of IPv4.
    private static func groups(_ text: Substring, isEnd: Bool) -> [UInt128]? {
        var words = text.isEmpty ? [] : text.split(separator: ":", omittingEmptySubsequences: false)
        let four = isEnd ? words.last.flatMap(IPAddress.four) : nil
        if four != nil { words.removeLast() }
        let groups = words.compactMap { $0.utf8.count <= 4 ? number($0, radix: 16) : nil }
        return groups.count == words.count ? groups + (four.map { [$0 >> 16, $0 & 0xffff] } ?? []) : nil
    }

    /// Digits alone: the standard library would take a sign too.
    private static func number(_ text: Substring, radix: Int) -> UInt128? {
        text.allSatisfy { $0.isASCII && $0.isHexDigit } ? UInt128(text, radix: radix) : nil
    }

    package init?(bytes: some Collection<UInt8>) {
        guard [4, 16].contains(bytes.count) else { return nil }
        self.init(bytes.count == 4 ? .four : .six, bytes.reduce(0) { $0 << 8 | UInt128($1) })
    }

    package var bytes: [UInt8] { (0..<family.bits / 8).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

    package var description: String {
        let fourText = bytes.suffix(4).map { "\($0)" }.joined(separator: ".")
        if !isSix { return fourText }
        let groups = (0..<8).map { UInt16(truncatingIfNeeded: value >> (112 - 16 * $0)) }
        // The longest run of zeros is left out, of several the first.
        var gap = 0..<0
        for start in groups.indices {
            let end = groups[start...].firstIndex { $0 != 0 } ?? 8
            if end - start > max(gap.count, 1) { gap = start..<end }
        }
        var words = groups.map { String($0, radix: 16) }
        // An address of IPv4 within one of IPv6 is shown as such: `::1.2.3.4`, `::ffff:1.2.3.4`.
        let leading = gap.lowerBound == 0 ? gap.count : 0
        if leading == 6 || leading == 5 && groups[5] == 0xffff { words[6...] = [fourText] }
        if gap.isEmpty { return words.joined(separator: ":") }
        return words[..<gap.lowerBound].joined(separator: ":") + "::"
            + words[gap.upperBound...].joined(separator: ":")
    }

    package var isSix: Bool { family == .six }

    /// Known on its link alone.
    package var isLinkLocal: Bool { isSix ? value >> 118 == 0xfe80 >> 6 : value >> 16 == 0xa9fe }

    /// Nobody's, or many's: unspecified, multicast and what is reserved.
    package var isSpecial: Bool {
        if isSix { return value == 0 || value >> 120 == 0xff || value >> 32 == 0xffff }
        return value >> 24 == 0 || value >> 28 >= 0xe
    }

    package var isLoopback: Bool { isSix ? value == 1 : value >> 24 == 127 }
}
