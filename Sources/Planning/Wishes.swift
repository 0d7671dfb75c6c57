import Model
import Values

/// What must be looked at before a machine can be planned: pure, from what was asked and what the host is.
package struct Wishes {
    /// How eth0 reaches the world.
    let mode: NetworkMode
    /// The guest's NICs in its order; the first is eth0.
    package let guestNICs: [GuestNICRequest]
    let vnc: SocketAddress?
    /// Where QEMU is to listen for the world.
    package let listeners: [(address: SocketAddress, udp: Bool)]
    /// passt, to be tried whether it can run here.
    package let passt: String?

    package init(_ arguments: Arguments, _ facts: HostFacts) throws(Failure) {
        mode = Wishes.networkMode(arguments, facts)
        guestNICs = try Wishes.guestNICs(arguments, facts, mode)
        vnc = Wishes.vnc(arguments, facts)
        let published = (mode == .user ? arguments.published : []).map {
            (SocketAddress(host: $0.address ?? "0.0.0.0", port: $0.host), $0.udp)
        }
        listeners = (vnc.map { [($0, false)] } ?? []) + published
        passt = mode == .user && arguments.userNet == .passt ? facts.tools.passt : nil
    }

    /// Interfaces that nobody else may take meanwhile.
    package var interfaces: [String] { guestNICs.filter(\.mode.usesInterface).map(\.interface) }
    /// A network of others, in which another DHCP server may be.
    package var joinsNetwork: Bool { guestNICs.contains(where: \.mode.isJoined) }

    /// Whether any of this depends on the network that the launcher is in.
    package static func dependOnNetwork(_ arguments: Arguments, _ facts: HostFacts) -> Bool {
        if !arguments.nics.isEmpty || arguments.netAll || arguments.bridge != nil { return true }
        guard let mode = arguments.net else {
            return facts.privileges.inContainer && facts.privileges.has(.netAdmin)
        }
        return ![.user, .none].contains(mode)
    }

    /// Where VNC listens. In a container the port is published or not by Docker; on a host it is for this host alone.
    private static func vnc(_ arguments: Arguments, _ facts: HostFacts) -> SocketAddress? {
        let usual = SocketAddress(host: facts.privileges.inContainer ? "0.0.0.0" : "127.0.0.1", port: 5901)
        switch arguments.vnc {
        case .off: return nil
        case nil: return usual
        case .at(let given): return SocketAddress(host: given.host.isEmpty ? usual.host : given.host, port: given.port)
        }
    }

    // MARK: - Network

    private static func guestNICs(
        _ arguments: Arguments, _ facts: HostFacts, _ mode: NetworkMode
    ) throws(Failure) -> [GuestNICRequest] {
        if let name = arguments.interface, !mode.usesInterface {
            throw Failure(.usage, "use", "--interface \(name)", "--net \(mode) takes no interface")
        }
        var first = GuestNICRequest(interface: arguments.interface ?? facts.network?.uplink?.name ?? "eth0", mode: mode)
        first.address = arguments.address
        first.mac = arguments.mac
        var requests = (mode == .none ? [] : [first]) + arguments.nics
        if arguments.netAll {
            guard mode.usesInterface else {
                throw Failure(
                    .usage, "use", "--net-all with --net \(mode)", "it is for the networks of a container",
                    remedy: "it goes with --net bridge, takeover and nat")
            }
            let taken = Set(requests.map(\.interface))
            let others = (facts.network?.links ?? []).filter {
                $0.name != "lo" && $0.isUp && $0.master == nil && !taken.contains($0.name) && $0.hasMAC && $0.tap == nil
                    && (mode != .bridge(nil) || $0.whyNotBridged == nil)
            }
            requests += others.map { GuestNICRequest(interface: $0.name, mode: mode) }
        }
        var used: Set<String> = []
        for request in requests where request.mode.usesInterface && !used.insert(request.interface).inserted {
            throw Failure(.usage, "use", "--nic \(request.interface)", "this interface is given twice")
        }
        return requests
    }

    /// What was asked for, or what fits where the launcher runs.
    private static func networkMode(_ arguments: Arguments, _ facts: HostFacts) -> NetworkMode {
        if let bridge = arguments.bridge, arguments.net ?? .bridge(nil) == .bridge(nil) { return .bridge(bridge) }
        if let mode = arguments.net { return mode }
        guard whyNotBridged(facts) == nil, let uplink = facts.network?.uplink else { return .user }
        // What is to be a NIC port is not eth0's.
        return arguments.ports.contains { $0.source == .interface(uplink.name) } ? .user : .bridge(nil)
    }

    /// Why a machine here has QEMU's user network if nothing is said; nil where it is bridged.
    package static func whyNotBridged(_ facts: HostFacts) -> String? {
        guard facts.privileges.inContainer else { return "this is no container" }
        for right in [HostFacts.Privileges.Capability.netAdmin, .netRaw] where !facts.privileges.has(right) {
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
}
