/// An address with the length of its network's prefix: `172.17.0.2/16`.
package struct NetworkAddress: Hashable, TextCodable {
    package var address: IPAddress
    package var prefix: Int

    package init(_ address: IPAddress, prefix: Int) {
        self.address = address
        self.prefix = prefix
    }

    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(parts[0]), let prefix = Int(parts[1]),
            (0...address.family.bits).contains(prefix)
        else { return nil }
        self.init(address, prefix: prefix)
    }

    package var description: String { "\(address)/\(prefix)" }
    package var family: IPAddress.Family { address.family }

    private var hostMask: UInt128 {
        let bits = family.bits - prefix
        return bits == 128 ? .max : (1 << UInt128(bits)) - 1
    }

    /// Where the network begins; and its last address, which in IPv4 is everybody's.
    package var first: IPAddress { IPAddress(family, address.value & ~hostMask) }
    var last: IPAddress { IPAddress(family, address.value | hostMask) }
    package var network: NetworkAddress { NetworkAddress(first, prefix: prefix) }

    package var netmask: IPAddress {
        let all = family == .four ? UInt128(UInt32.max) : .max
        return IPAddress(family, all & ~hostMask)
    }

    package func contains(_ other: IPAddress) -> Bool {
        other.family == family && other.value & ~hostMask == first.value
    }

    package func overlaps(_ other: NetworkAddress) -> Bool { contains(other.first) || other.contains(first) }

    /// Whether a host can have it beside others: in IPv4 the network's first and last address are nobody's.
    package var isForHost: Bool {
        if prefix == 0 || address.isLoopback || address.isSpecial { return false }
        if family == .six || prefix > 30 { return true }
        return address != first && address != last
    }

    /// The addresses that hosts can have, from the high end down.
    package var hostsFromTheEnd: some Sequence<IPAddress> {
        // The last 128 of an IPv6 network stand for any router and the like (RFC 2526).
        let reserved: UInt128 = family == .six && prefix <= 112 ? 0x100 : 1
        let start = last.value - min(reserved, last.value - first.value)
        return sequence(first: start) { [first] in $0 > first.value && $0 - 1 > first.value ? $0 - 1 : nil }
            .lazy.map { [family] in IPAddress(family, $0) }
    }
}
