import Values

extension HostFacts {
    /// The network that the launcher is in: a container's own, or the host's.
    package struct Network: Codable, Equatable {
        /// Not the one in which the host itself is.
        package var isOwn: Bool
        /// Which network namespace it is.
        package var namespace: UInt64 = 0
        package var links: [Link] = []
        package var routes: [Route] = []
        /// Those that were set by hand for good.
        package var neighbours: [Neighbour] = []
        package var nameservers: [IPAddress] = []
        package var searchDomains: [String] = []
        /// Which interfaces forward packets, `ipv4/eth0` and so on; and whether that can be changed.
        package var forwarding: [String: Bool] = [:]
        package var canSetForwarding = false
        package var hasVhost = false

        package init(isOwn: Bool) { self.isOwn = isOwn }
    }

    package struct Link: Codable, Equatable {
        package var name: String
        /// nil where it is none of Ethernet.
        package var mac: MACAddress?
        package var mtu = 1500
        package var isUp = false
        /// veth, bridge, tun, macvtap …; nil for a device.
        package var kind: String?
        package var master: String?
        package var addresses: [Address] = []
        package var tap: Tap?
        /// The device file of a macvtap, by its numbers.
        package var macvtap: String?
        /// Whether it listens to routers (1), even if it is one itself (2).
        package var acceptsAdvertisements: Int?
        package var hasIPv6 = true

        package init(name: String) { self.name = name }

        /// Those that it was given.
        package var ownAddresses: [Address] { addresses.filter { !$0.isLinkLocal } }

        package struct Tap: Codable, Equatable {
            /// Who may open it; nil for anybody.
            package var owner: UInt32?
            package var hasGroup = false
            package var isMultiQueue = false

            package init(owner: UInt32?) { self.owner = owner }
        }
    }

    package struct Address: Codable, Equatable {
        package var address: NetworkAddress
        /// Given to it by the kernel because of its MAC address.
        package var isLinkLocal = false
        /// What `ip address add` is told, after the address; the label apart, since it holds the interface's name.
        package var words: [String] = []
        package var label: String?

        package init(address: NetworkAddress) { self.address = address }
    }

    package struct Neighbour: Codable, Equatable {
        package var address: IPAddress
        package var mac: MACAddress
        package var device: String

        package init(address: IPAddress, mac: MACAddress, device: String) {
            self.address = address
            self.mac = mac
            self.device = device
        }
    }

    package struct Route: Codable, Equatable {
        package var family: IPAddress.Family
        /// `0.0.0.0/0` for the default route.
        package var destination: NetworkAddress
        package var gateway: IPAddress?
        package var device: String
        /// The kernel makes it with an address.
        package var isAutomatic = false
        /// What `ip route add` is told, but for the device; nil for what can't be told so.
        package var words: [String]?
        package var isMain = true

        package init(family: IPAddress.Family, destination: NetworkAddress, device: String) {
            self.family = family
            self.destination = destination
            self.device = device
        }
    }
}

extension HostFacts.Network {
    package func link(_ name: String) -> HostFacts.Link? { links.first { $0.name == name } }

    package func defaultRoute(of device: String, _ family: IPAddress.Family) -> HostFacts.Route? {
        routes.first { $0.device == device && $0.family == family && $0.destination.prefix == 0 && $0.isMain }
    }

    /// The interface that leads out: with the default route, or called eth0, as engines do.
    package var uplink: HostFacts.Link? {
        let leading = routes.filter { $0.destination.prefix == 0 && $0.isMain && $0.gateway != nil }
        if let route = leading.first(where: { $0.family == .four }) ?? leading.first { return link(route.device) }
        return links.first { $0.name == "eth0" && $0.isUp && $0.master == nil }
    }

    package static func advertisementsFile(_ link: String) -> String { "/proc/sys/net/ipv6/conf/\(link)/accept_ra" }

    /// Whether it has learned from routers what they tell.
    package func listens(_ link: HostFacts.Link) -> Bool {
        link.acceptsAdvertisements == 1
            && routes.contains { $0.device == link.name && $0.words?.contains("ra") == true }
    }

    package static func forwardingFile(_ key: String) -> String {
        let parts = key.split(separator: "/", maxSplits: 1)
        return "/proc/sys/net/\(parts[0])/conf/\(parts[1])/forwarding"
    }
}

extension HostFacts.Link {
    /// A bridge's port must let through the frames of other MAC addresses than its own.
    package var whyNotBridged: String? {
        if !hasMAC { return "it has no MAC address" }
        if tap != nil { return "it is a tap" }
        switch kind {
        case "bridge": return "it is a bridge itself"
        case "ipvlan", "ipvtap", "macvlan", "macvtap":
            return "a \(kind ?? "") lets no frames of other MAC addresses through"
        default: return nil
        }
    }

    package var hasMAC: Bool { mac?.bytes.contains { $0 != 0 } == true }
}
