extension HostFacts {
    /// The network that the launcher is in: a container's own, or the host's.
    struct Network: Codable, Equatable {
        /// Not the one in which the host itself is.
        var isOwn: Bool
        /// Which network namespace it is.
        var namespace: UInt64 = 0
        var links: [Link] = []
        var routes: [Route] = []
        /// Those that were set by hand for good.
        var neighbours: [Neighbour] = []
        var nameservers: [IPAddress] = []
        var searchDomains: [String] = []
        /// Which interfaces forward packets, `ipv4/eth0` and so on; and whether that can be changed.
        var forwarding: [String: Bool] = [:]
        var canSetForwarding = false
        var hasVhost = false
    }

    struct Link: Codable, Equatable {
        var name: String
        /// nil where it is none of Ethernet.
        var mac: MACAddress?
        var mtu: Int
        var isUp: Bool
        /// veth, bridge, tun, macvtap …; nil for a device.
        var kind: String?
        var master: String?
        var addresses: [Address] = []
        var tap: Tap?
        /// The device file of a macvtap, by its numbers.
        var macvtap: String?
        /// Whether it listens to routers (1), even if it is one itself (2).
        var acceptsAdvertisements: Int?
        var hasIPv6 = true

        /// Those that it was given.
        var ownAddresses: [Address] { addresses.filter { !$0.isLinkLocal } }

        struct Tap: Codable, Equatable {
            /// Who may open it; nil for anybody.
            var owner: UInt32?
            var hasGroup = false
            var isMultiQueue = false
        }
    }

    struct Address: Codable, Equatable {
        var address: NetworkAddress
        /// Given to it by the kernel because of its MAC address.
        var isLinkLocal = false
        /// What `ip address add` is told, after the address; the label apart, since it holds the interface's name.
        var words: [String] = []
        var label: String?
    }

    struct Neighbour: Codable, Equatable {
        var address: IPAddress
        var mac: MACAddress
        var device: String
    }

    struct Route: Codable, Equatable {
        var family: IPAddress.Family
        /// `0.0.0.0/0` for the default route.
        var destination: NetworkAddress
        var gateway: IPAddress?
        var device: String
        /// The kernel makes it with an address.
        var isAutomatic = false
        /// What `ip route add` is told, but for the device; nil for what can't be told so.
        var words: [String]?
        var isMain = true
    }
}

extension HostFacts.Network {
    func link(_ name: String) -> HostFacts.Link? { links.first { $0.name == name } }

    func defaultRoute(of device: String, _ family: IPAddress.Family) -> HostFacts.Route? {
        routes.first { $0.device == device && $0.family == family && $0.destination.prefix == 0 && $0.isMain }
    }

    /// The interface that leads out: with the default route, or called eth0, as engines do.
    var uplink: HostFacts.Link? {
        let leading = routes.filter { $0.destination.prefix == 0 && $0.isMain && $0.gateway != nil }
        if let route = leading.first(where: { $0.family == .four }) ?? leading.first { return link(route.device) }
        return links.first { $0.name == "eth0" && $0.isUp && $0.master == nil }
    }

    static func advertisementsFile(_ link: String) -> String { "/proc/sys/net/ipv6/conf/\(link)/accept_ra" }

    /// Whether it has learned from routers what they tell.
    func listens(_ link: HostFacts.Link) -> Bool {
        link.acceptsAdvertisements == 1
            && routes.contains { $0.device == link.name && $0.words?.contains("ra") == true }
    }

    static func forwardingFile(_ key: String) -> String {
        let parts = key.split(separator: "/", maxSplits: 1)
        return "/proc/sys/net/\(parts[0])/conf/\(parts[1])/forwarding"
    }
}
