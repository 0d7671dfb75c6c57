import Values

/// A port of the host (or container) that leads to one of the guest.
package struct PublishedPort: Codable, Equatable, CustomStringConvertible {
    package var address: String?
    package var host: Int
    package var guest: Int
    package var udp = false

    package var description: String {
        let from = address.map { SocketAddress(host: $0, port: host).description } ?? "\(host)"
        return "\(from):\(guest)" + (udp ? "/udp" : "")
    }

    /// Both would listen for the same.
    package func overlaps(_ other: PublishedPort) -> Bool {
        let isAny = { (port: PublishedPort) in ["0.0.0.0", "::"].contains(port.address ?? "::") }
        return host == other.host && udp == other.udp && (isAny(self) || isAny(other) || address == other.address)
    }

    /// `[ADDRESS:]HOST:GUEST[/udp]`, or HOST alone for the same on both sides, where HOST and GUEST can be lists and
    /// ranges of the same length: `80,8000-8003`.
    package static func parse(_ text: String) -> [PublishedPort]? {
        let udp = text.hasSuffix("/udp")
        var rest = udp || text.hasSuffix("/tcp") ? text.dropLast(4) : text[...]
        guard let guestColon = rest.lastIndex(of: ":") else {
            return ports(rest).map { $0.map { PublishedPort(host: $0, guest: $0, udp: udp) } }
        }
        let guestText = rest[rest.index(after: guestColon)...]
        rest = rest[..<guestColon]
        var address: String?
        if let hostColon = rest.lastIndex(of: ":"), !rest.hasSuffix("]") {
            address = String(rest[..<hostColon])
            rest = rest[rest.index(after: hostColon)...]
        }
        if let given = address, given.hasPrefix("["), given.hasSuffix("]") {
            address = String(given.dropFirst().dropLast())
        }
        if let given = address, IPAddress(given) == nil { return nil }
        guard let hosts = ports(rest), let guests = ports(guestText), hosts.count == guests.count else { return nil }
        return zip(hosts, guests).map { PublishedPort(address: address, host: $0, guest: $1, udp: udp) }
    }

    private static func ports(_ text: Substring) -> [Int]? {
        String(text).numberList.flatMap { $0.contains(0) ? nil : $0 }
    }
}
