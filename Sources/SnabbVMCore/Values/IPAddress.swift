/// An IPv4 or IPv6 address, with which one can count.
struct IPAddress: Hashable, TextCodable {
    enum Family: String, Codable {
        case four = "inet"
        case six = "inet6"

        var bits: Int { self == .four ? 32 : 128 }
        var isSix: Bool { self == .six }
    }

    var family: Family
    var value: UInt128

    init(_ family: Family, _ value: UInt128) {
        self.family = family
        self.value = value
    }

    /// What inet_pton takes, and nothing else: no zone, no zeros before a number of IPv4.
    init?(_ text: some StringProtocol) {
        let text = Array(text.utf8)
        let isSix = text.contains(UInt8(ascii: ":"))
        guard let value = isSix ? IPAddress.six(text) : IPAddress.four(text[...]) else { return nil }
        self.init(isSix ? .six : .four, value)
    }

    private static func four(_ text: ArraySlice<UInt8>) -> UInt128? {
        let numbers = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        if numbers.count != 4 { return nil }
        var value: UInt128 = 0
        for digits in numbers {
            // A number with zeros before it is octal to some and decimal to others.
            guard let first = digits.first, digits.count == 1 || first != UInt8(ascii: "0"),
                let number = number(digits, radix: 10), number < 256
            else { return nil }
            value = value << 8 | number
        }
        return value
    }

    private static func six(_ text: [UInt8]) -> UInt128? {
        var words = text.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        // A colon at an end is one of the two that stand for zeros.
        if words[0].isEmpty {
            if words.count < 3 || !words[1].isEmpty { return nil }
            words.removeFirst()
        }
        if words.count > 1, words[words.count - 1].isEmpty {
            if !words[words.count - 2].isEmpty { return nil }
            words.removeLast()
        }
        var (value, count, gap) = (UInt128(0), 0, Int?.none)
        for (index, word) in words.enumerated() {
            if word.isEmpty {
                if gap != nil { return nil }
                gap = count
            } else if index == words.count - 1, let four = four(word) {
                (value, count) = (value << 32 | four, count + 2)
            } else {
                guard word.count <= 4, let group = number(word, radix: 16) else { return nil }
                (value, count) = (value << 16 | group, count + 1)
            }
            if count > 8 { return nil }
        }
        guard let gap else { return count == 8 ? value : nil }
        if count == 8 { return nil }
        let low: UInt128 = (1 << UInt128(16 * (count - gap))) - 1
        return (value & ~low) << UInt128(16 * (8 - count)) | value & low
    }

    private static func number(_ digits: ArraySlice<UInt8>, radix: Int) -> UInt128? {
        let text = String(decoding: digits, as: UTF8.self)
        return text.allSatisfy { $0.isASCII && $0.isHexDigit } ? UInt128(text, radix: radix) : nil
    }

    init?(bytes: some Collection<UInt8>) {
        guard [4, 16].contains(bytes.count) else { return nil }
        self.init(bytes.count == 4 ? .four : .six, bytes.reduce(0) { $0 << 8 | UInt128($1) })
    }

    var bytes: [UInt8] { (0..<family.bits / 8).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

    var description: String {
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
        if gap == 0..<6 || gap == 0..<5 && groups[5] == 0xffff { words[6...] = [fourText] }
        if gap.isEmpty { return words.joined(separator: ":") }
        return words[..<gap.lowerBound].joined(separator: ":") + "::"
            + words[gap.upperBound...].joined(separator: ":")
    }

    var isSix: Bool { family == .six }

    /// Known on its link alone.
    var isLinkLocal: Bool { isSix ? value >> 118 == 0xfe80 >> 6 : value >> 16 == 0xa9fe }

    /// Nobody's, or many's: unspecified, multicast and what is reserved.
    var isSpecial: Bool {
        if isSix { return value == 0 || value >> 120 == 0xff || value >> 32 == 0xffff }
        return value >> 24 == 0 || value >> 28 >= 0xe
    }

    var isLoopback: Bool { isSix ? value == 1 : value >> 24 == 127 }
}
