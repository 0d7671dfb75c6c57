/// One NIC of the machine, beside its ports.
struct NetworkPlan: Codable, Equatable {
    /// As the guest counts its interfaces.
    var name: String
    var mode: NetworkMode
    var mac: MACAddress
    var model: String
    /// The container's interface, and the bridge that the machine's NIC is in.
    var interface: String?
    var bridge: String?
    /// The tap or macvtap that QEMU opens.
    var device: String?
    var queues = 1
    /// Whether the kernel moves the packets between tap and guest, and not QEMU.
    var vhost = Vhost.off
    /// Whether the guest is given unfinished checksums and packets larger than the MTU.
    var offload = false
    var mtu: Int?
    var addresses: [Assigned] = []
    /// Beyond the default route.
    var routes: [FurtherRoute] = []
    var nameservers: [IPAddress] = []
    var searchDomains: [String] = []
    var usesDHCP = false
    var usesPasst = false
    var published: [PublishedPort] = []
    /// Where the launcher's side of the network finds the guest, where that is not at its own address.
    var reachedAt: IPAddress?

    struct Assigned: Codable, Equatable {
        var address: NetworkAddress
        var gateway: IPAddress?
    }

    struct FurtherRoute: Codable, Equatable {
        var destination: NetworkAddress
        var gateway: IPAddress
    }

    enum Vhost: String, Codable { case off, passed, opened }

    var isKernels: Bool { ![.user, .none].contains(mode) }
}

extension Plan {
    /// The requests for NICs, in the guest's order; the first is for eth0.
    static func nicRequests(_ arguments: Arguments, _ facts: Facts) throws(Failure) -> [NICRequest] {
        let uplink = facts.network?.uplink?.name
        let mode = networkMode(arguments, facts)
        if let name = arguments.interface, !mode.usesInterface {
            throw Failure(.usage, "use", "--interface \(name)", "--net \(mode) takes no interface")
        }
        var first = NICRequest(interface: arguments.interface ?? uplink ?? "eth0", mode: mode)
        first.address = arguments.address
        first.mac = arguments.mac
        var requests = (first.mode == .none ? [] : [first]) + arguments.nics
        if arguments.netAll {
            guard first.mode.usesInterface else {
                throw Failure(
                    .usage, "use", "--net-all with --net \(first.mode)", "it is for the networks of a container",
                    remedy: "it goes with --net bridge, takeover and nat")
            }
            let taken = Set(requests.map(\.interface))
            let others = (facts.network?.links ?? []).filter {
                $0.name != "lo" && $0.isUp && $0.master == nil && !taken.contains($0.name) && $0.hasMAC && $0.tap == nil
                    && (first.mode != .bridge(nil) || $0.whyNotBridged == nil)
            }
            requests += others.map { NICRequest(interface: $0.name, mode: first.mode) }
        }
        for (index, request) in requests.enumerated() {
            let isTwice = requests[..<index].contains {
                $0.interface == request.interface && $0.mode.usesInterface && request.mode.usesInterface
            }
            if !isTwice { continue }
            throw Failure(.usage, "use", "--nic \(request.interface)", "this interface is given twice")
        }
        return requests
    }

    /// What was asked for, or what fits where the launcher runs.
    static func networkMode(_ arguments: Arguments, _ facts: Facts) -> NetworkMode {
        if let bridge = arguments.bridge, arguments.net ?? .bridge(nil) == .bridge(nil) { return .bridge(bridge) }
        if let mode = arguments.net { return mode }
        guard whyNotBridged(facts) == nil, let uplink = facts.network?.uplink else { return .user }
        // What is to be a NIC port is not eth0's.
        return arguments.ports.contains { $0.source == .interface(uplink.name) } ? .user : .bridge(nil)
    }

    /// Why a machine here has QEMU's user network if nothing is said; nil where it is bridged.
    static func whyNotBridged(_ facts: Facts) -> String? {
        guard facts.privileges.inContainer else { return "this is no container" }
        for right in [Facts.Privileges.Capability.netAdmin, .netRaw] where !facts.privileges.has(right) {
            return "this container has not the right \(right.name)"
        }
        guard let network = facts.network else { return "iproute2 is not installed" }
        if !network.isOwn { return "this container has the host's network" }
        guard let uplink = network.uplink, uplink.master == nil else { return "there is no interface to bridge" }
        if let why = uplink.whyNotBridged { return "\(uplink.name) can't be bridged: \(why)" }
        if !uplink.ownAddresses.isEmpty, AddressSearch.networks(of: uplink).isEmpty {
            return "\(uplink.name)'s network has no room for another address"
        }
        if !facts.privileges.hasTun { return "there is no /dev/net/tun" }
        if facts.tools.nft == nil { return "nftables is not installed" }
        if facts.tools.dnsmasq == nil { return "dnsmasq is not installed" }
        return nil
    }

    /// Whether a plan for this depends on the network that the launcher is in.
    static func needsNetworkFacts(_ arguments: Arguments, _ facts: Facts) -> Bool {
        if !arguments.nics.isEmpty || arguments.netAll || arguments.bridge != nil { return true }
        guard let mode = arguments.net else {
            return facts.privileges.inContainer && facts.privileges.has(.netAdmin)
        }
        return ![.user, .none].contains(mode)
    }
}

extension Facts.Link {
    /// A bridge's port must let through the frames of other MAC addresses than its own.
    var whyNotBridged: String? {
        if !hasMAC { return "it has no MAC address" }
        if tap != nil { return "it is a tap" }
        switch kind {
        case "bridge": return "it is a bridge itself"
        case "ipvlan", "ipvtap", "macvlan", "macvtap":
            return "a \(kind ?? "") lets no frames of other MAC addresses through"
        default: return nil
        }
    }

    var hasMAC: Bool { mac?.bytes.contains { $0 != 0 } == true }
}
