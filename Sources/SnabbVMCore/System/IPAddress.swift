import Glibc

/// An IPv4 or IPv6 address, with which one can count.
struct IPAddress: Hashable, TextCodable {
    enum Family: String, Codable {
        case four = "inet"
        case six = "inet6"

        var bits: Int { self == .four ? 32 : 128 }
        fileprivate var number: Int32 { self == .four ? AF_INET : AF_INET6 }
    }

    var family: Family
    var value: UInt128

    init(_ family: Family, _ value: UInt128) {
        self.family = family
        self.value = value
    }

    init?(_ text: some StringProtocol) {
        family = text.contains(":") ? .six : .four
        var bytes = [UInt8](repeating: 0, count: family.bits / 8)
        guard inet_pton(family.number, String(text), &bytes) == 1 else { return nil }
        value = bytes.reduce(0) { $0 << 8 | UInt128($1) }
    }

    init?(bytes: some Collection<UInt8>) {
        guard [4, 16].contains(bytes.count) else { return nil }
        self.init(bytes.count == 4 ? .four : .six, bytes.reduce(0) { $0 << 8 | UInt128($1) })
    }

    var bytes: [UInt8] { (0..<family.bits / 8).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

    var description: String {
        var text = [CChar](repeating: 0, count: 64)
        inet_ntop(family.number, bytes, &text, socklen_t(text.count))
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
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

/// An address with the length of its network's prefix: `172.17.0.2/16`.
struct NetworkAddress: Hashable, TextCodable {
    var address: IPAddress
    var prefix: Int

    init(_ address: IPAddress, prefix: Int) {
        self.address = address
        self.prefix = prefix
    }

    init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(parts[0]), let prefix = Int(parts[1]),
            (0...address.family.bits).contains(prefix)
        else { return nil }
        self.init(address, prefix: prefix)
    }

    var description: String { "\(address)/\(prefix)" }
    var family: IPAddress.Family { address.family }

    private var hostMask: UInt128 {
        let bits = family.bits - prefix
        return bits == 128 ? .max : (1 << UInt128(bits)) - 1
    }

    /// Where the network begins; and its last address, which in IPv4 is everybody's.
    var first: IPAddress { IPAddress(family, address.value & ~hostMask) }
    var last: IPAddress { IPAddress(family, address.value | hostMask) }
    var network: NetworkAddress { NetworkAddress(first, prefix: prefix) }

    var netmask: IPAddress {
        let all = family == .four ? UInt128(UInt32.max) : .max
        return IPAddress(family, all & ~hostMask)
    }

    func contains(_ other: IPAddress) -> Bool {
        other.family == family && other.value & ~hostMask == first.value
    }

    func overlaps(_ other: NetworkAddress) -> Bool { contains(other.first) || other.contains(first) }

    /// Whether a host can have it beside others: in IPv4 the network's first and last address are nobody's.
    var isForHost: Bool {
        if prefix == 0 || address.isLoopback || address.isSpecial { return false }
        if family == .six || prefix > 30 { return true }
        return address != first && address != last
    }

    /// The addresses that hosts can have, from the high end down.
    var hostsFromTheEnd: some Sequence<IPAddress> {
        // The last 128 of an IPv6 network stand for any router and the like (RFC 2526).
        let reserved: UInt128 = family == .six && prefix <= 112 ? 0x100 : 1
        let start = last.value - min(reserved, last.value - first.value)
        return sequence(first: start) { [first] in $0 > first.value && $0 - 1 > first.value ? $0 - 1 : nil }
            .lazy.map { [family] in IPAddress(family, $0) }
    }
}

/// The six bytes of `52:54:00:12:34:56`.
struct MACAddress: Hashable, TextCodable {
    var bytes: [UInt8]

    init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        bytes = parts.compactMap { $0.count == 2 ? UInt8($0, radix: 16) : nil }
        if parts.count != 6 || bytes.count != 6 { return nil }
    }

    init(bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }

    var description: String { bytes.map { hexadecimal(UInt64($0), digits: 2) }.joined(separator: ":") }
}
