import Model
import Values

/// What several modes have in common: taps, addresses, name servers.
extension NetworkPlanner {
    var queues: Int { arguments.nicModel.hasPrefix("virtio-net") ? min(arguments.cpus, 8) : 1 }

    mutating func addTap(_ plan: inout GuestNICPlan, mtu: Int, _ index: Int) throws(Failure) -> String {
        let name = "sv\(tag)t\(index)"
        try checkFree(name)
        plan.device = name
        plan.mtu = mtu
        plan.queues = queues
        plan.offload = arguments.nicOffload
        setVhost(&plan)
        return name
    }

    mutating func setVhost(_ plan: inout GuestNICPlan) {
        guard network.hasVhost, arguments.nicModel.hasPrefix("virtio-net") else { return }
        if plan.queues == 1 {
            plan.vhost = .passed
            return
        }
        // Each queue has QEMU open it anew.
        if user == nil {
            plan.vhost = .opened
            return
        }
        notes.append("\(plan.name) does without vhost-net: with several queues, QEMU would have to be root to open it")
    }

    /// Its own frames only: the kernel has nothing to say on it.
    func tapLines(_ plan: GuestNICPlan) -> [String] {
        let tap = plan.device ?? ""
        let queues = plan.queues > 1 ? " multi_queue" : ""
        return [
            "tuntap add dev \(tap) mode tap user \(user?.uid ?? facts.privileges.uid)\(queues)",
            "link set dev \(tap) address \(tapMAC(plan)) mtu \(plan.mtu ?? 1500) addrgenmode none",
        ]
    }

    /// The highest that there can be: a bridge of others has the lowest of its ports, which must not change under it. The
    /// machine's own it can't be: the kernel would take its frames for itself.
    func tapMAC(_ plan: GuestNICPlan) -> MACAddress {
        var mac = plan.mac
        if mac.bytes[0] == 0xfe { mac.bytes[5] ^= 1 } else { mac.bytes[0] = 0xfe }
        return mac
    }

    func tapChange(_ plan: GuestNICPlan) -> [Effect] {
        [.tap(name: plan.device ?? "", isMultiQueue: plan.queues > 1, namespace: network.namespace)]
    }

    func state(of link: HostFacts.Link, _ request: GuestNICRequest) throws(Failure) -> InterfaceState {
        let routes = network.routes.filter { $0.device == link.name && !$0.isAutomatic }
        if let odd = routes.first(where: { $0.words == nil }) {
            throw refuse(
                request, "its route to \(odd.destination) is of a kind that could not be put back",
                "use --net nat or user")
        }
        let neighbours = network.neighbours.filter { $0.device == link.name }
        // With an address that is lent the kernel leaves its network's route.
        let lent = link.ownAddresses.filter { $0.address.family == .six && $0.words.contains("valid_lft") }
        let leftovers = network.routes.filter { route in
            route.device == link.name && route.isAutomatic && lent.contains { $0.address.network == route.destination }
        }
        return InterfaceState(
            name: link.name, addresses: link.ownAddresses, routes: routes, neighbours: neighbours,
            leftovers: leftovers.map(\.destination))
    }

    /// The addresses of a machine in a bridge.
    mutating func assign(
        _ plan: inout GuestNICPlan, _ request: GuestNICRequest, on link: HostFacts.Link
    ) throws(Failure) {
        let own = link.ownAddresses
        if request.mac == link.mac {
            throw refuse(request, "\(link.name) itself has this MAC address", "choose another with --mac", .usage)
        }
        switch request.address ?? .auto {
        case .none: break
        case .dhcp: plan.usesDHCP = true
        case .auto:
            if own.isEmpty {
                if request.mode.isJoined {
                    throw refuse(
                        request, "the bridge has no address, so what is free there is not known",
                        "give an address, or --address dhcp", .usage)
                }
                notes.append("\(link.name) has no address, so the machine gets none from here (--address)")
                plan.usesDHCP = true
            }
            let networks = AddressSearch.networks(of: link)
            if networks.isEmpty, let address = own.first?.address {
                throw refuse(
                    request, "\(link.name)'s network \(address) has no room for another address",
                    "use --net takeover or nat")
            }
            for network in networks {
                guard let found = findings.addresses[AddressPlace(link.name, network.family)] else {
                    if network.family == .six { continue }
                    throw Failure(
                        .network, "find", "a free address in \(network.network)", "others have all that were tried",
                        remedy: "give one with --address")
                }
                plan.addresses.append(
                    .init(
                        address: NetworkAddress(found, prefix: network.prefix), gateway: gateway(link, in: network)))
            }
        case .fixed(let addresses):
            for fixed in addresses { plan.addresses.append(try within(fixed, own, link)) }
        }
    }

    func gateway(_ link: HostFacts.Link, in network: NetworkAddress) -> IPAddress? {
        guard let gateway = self.network.defaultRoute(of: link.name, network.family)?.gateway,
            network.contains(gateway) || gateway.isLinkLocal
        else { return nil }
        return gateway
    }

    func within(
        _ fixed: AddressRequest.FixedAddress, _ own: [HostFacts.Address], _ link: HostFacts.Link
    ) throws(Failure) -> GuestNICPlan.Assigned {
        let address = fixed.address
        let networks = own.map(\.address.network)
        guard own.isEmpty || networks.contains(address.network) else {
            throw Failure(
                .network, "give the machine", "\(address)", "it is outside of \(link.name)'s network",
                remedy: "that is \(networks.map(\.description).joined(separator: ", "))")
        }
        try checkHost(address)
        if let mine = own.first(where: { $0.address.address == address.address }) {
            throw Failure(
                .network, "give the machine", "\(address)", "\(link.name) has \(mine.address) itself",
                remedy: "choose another, or --address auto")
        }
        let theirs = gateway(link, in: address.network)
        if theirs == address.address {
            throw Failure(.network, "give the machine", "\(address)", "that is the gateway's")
        }
        if let holder = findings.holders[address.address] {
            throw Failure(
                .network, "give the machine", "\(address)", "\(holder) has it already",
                remedy: "choose another, or --address auto")
        }
        try checkGateway(fixed, in: address.network)
        return .init(address: address, gateway: fixed.gateway ?? theirs)
    }

    func checkHost(_ address: NetworkAddress) throws(Failure) {
        if address.isForHost { return }
        throw Failure(.network, "give the machine", "\(address)", "that is no address for a host")
    }

    func checkGateway(_ fixed: AddressRequest.FixedAddress, in network: NetworkAddress) throws(Failure) {
        guard let gateway = fixed.gateway else { return }
        if gateway == fixed.address.address {
            throw Failure(.network, "use gateway", "\(gateway)", "that is the machine's own address")
        }
        let isHost = NetworkAddress(gateway, prefix: network.prefix).isForHost
        if network.contains(gateway) && isHost || gateway.isSix && gateway.isLinkLocal { return }
        throw Failure(
            .network, "use gateway", "\(gateway)", "\(fixed.address) can't reach it: it is no host of \(network)")
    }

    /// An address in a network of the machine's own, whose gateway is the launcher's side.
    func behind(_ fixed: AddressRequest.FixedAddress) throws(Failure) -> GuestNICPlan.Assigned {
        let inner = fixed.address
        if !inner.isForHost || inner.family.bits - inner.prefix < 2 {
            throw Failure(
                .network, "give the machine", "\(inner)", "it is no address for a host with a gateway beside it")
        }
        let gateway = fixed.gateway ?? IPAddress(inner.family, inner.first.value + 1)
        try checkGateway(.init(address: inner, gateway: gateway), in: inner.network)
        return .init(address: inner, gateway: gateway)
    }

    func conflicting(_ wanted: NetworkAddress) -> NetworkAddress? {
        let routes = network.routes.map(\.destination).filter { $0.prefix > 0 }
        let servers = network.nameservers.map { NetworkAddress($0, prefix: $0.family.bits) }
        return (routes + servers + privateNetworks).first { $0.overlaps(wanted) }
    }

    /// One that leads nowhere else from here.
    mutating func privateNetwork(prefix: Int, _ request: GuestNICRequest) throws(Failure) -> NetworkAddress {
        for number in UInt128(0)..<256 {
            let network = NetworkAddress(IPAddress(.four, 0x0ae7_0000 | number << 8), prefix: prefix)
            if conflicting(NetworkAddress(network.address, prefix: 24)) != nil { continue }
            privateNetworks.append(NetworkAddress(network.address, prefix: 24))
            return network
        }
        throw refuse(request, "the container has routes to all of 10.231.0.0/16", "give one with --address")
    }

    /// Those by gateways that the machine can reach as well.
    func furtherRoutes(of link: HostFacts.Link, _ plan: GuestNICPlan) -> [GuestNICPlan.FurtherRoute] {
        network.routes.compactMap { route in
            guard route.device == link.name, route.isMain, route.destination.prefix > 0, let gateway = route.gateway,
                gateway.family == route.family, plan.addresses.contains(where: { $0.address.contains(gateway) })
            else { return nil }
            return .init(destination: route.destination, gateway: gateway)
        }
    }

    /// The container's own servers, or a relay to those that only the container can reach.
    func setResolver(_ plan: inout GuestNICPlan, relay: [IPAddress]) {
        let families = Set(plan.addresses.map(\.address.family))
        let reachable = network.nameservers.filter {
            !$0.isLoopback && !$0.isLinkLocal && families.contains($0.family)
        }
        plan.nameservers = reachable.isEmpty && !network.nameservers.isEmpty ? relay : reachable
        plan.searchDomains = network.searchDomains
    }

    mutating func serve(_ plan: inout GuestNICPlan, on device: String, from link: HostFacts.Link) {
        let own = plan.addresses.compactMap { assigned in
            link.addresses.first { $0.address.contains(assigned.address.address) }?.address.address
        }
        // In a bridge of others without an address there, nothing can be served; the seed says it all the same.
        if !own.isEmpty {
            plan.routes = furtherRoutes(of: link, plan)
            setResolver(&plan, relay: own)
            plan.usesDHCP = true
            let isOurs = !plan.mode.isJoined
            server.add(plan, on: device, at: own, reachesNetwork: true, advertises: isOurs, network.nameservers)
        }
        let relaysNames = plan.nameservers.contains(where: own.contains)
        let hearsRouters = link.hasIPv6 && link.acceptsAdvertisements != 0
        rules.guardBridge(plan, outside: plan.interface, hearsRouters: hearsRouters, relaysNames: relaysNames)
    }

    mutating func publishOnBridge(
        _ plan: GuestNICPlan, _ link: HostFacts.Link, _ bridge: String
    ) throws(Failure) {
        guard let port = plan.published.first else { return }
        try checkPublished(plan)
        if plan.addresses.isEmpty {
            throw Failure(
                .network, "publish", "\(port)", "the machine's address is not known beforehand",
                remedy: "use --address auto, or the machine's own address")
        }
        let own = link.ownAddresses.map(\.address.address)
        try checkPublishedAddresses(plan, own)
        let request = GuestNICRequest(interface: link.name, mode: plan.mode)
        for guest in plan.addresses.map(\.address.address) where own.contains(where: { $0.family == guest.family }) {
            let kind = guest.isSix ? "ipv6" : "ipv4"
            if guest.isSix { keepListening(on: bridge, for: link) }
            let isChange = try forward(kind, guest.isSix ? ["all"] : [bridge], request)
            rules.publish(plan, to: guest, own: own, on: bridge, isNoRouter: isChange)
        }
    }

    /// Where nobody would find them they are not what was wanted.
    func checkPublishedAddresses(_ plan: GuestNICPlan, _ own: [IPAddress]) throws(Failure) {
        for port in plan.published {
            guard let text = port.address, let address = IPAddress(text), address.value != 0, !own.contains(address)
            else { continue }
            throw Failure(
                .network, "publish", "\(port)", "\(address) is no address of \(plan.interface ?? "the container")",
                remedy: "leave it out, or give one of \(own.map(\.description).joined(separator: ", "))")
        }
    }

    /// Who passes packets on would no longer hear what routers say: none of the interfaces that have heard it, nor a bridge
    /// in the place of one.
    mutating func keepListening(on bridge: String? = nil, for link: HostFacts.Link? = nil) {
        guard network.canSetForwarding, network.forwarding["ipv6/all"] != true else { return }
        for other in network.links.filter(network.listens) {
            let name = other == link ? bridge ?? other.name : other.name
            set(HostFacts.Network.advertisementsFile(name), "2", before: "1")
        }
    }

    /// Once, whichever NICs want it so.
    private mutating func set(_ path: String, _ value: String, before: String) {
        let step = Effect.setting(path: path, value: value, before: before, namespace: network.namespace)
        if !effects.contains(step) { effects.append(step) }
    }

    /// Packets may be passed on by these interfaces; those that are made take the default. Tells whether that is
    /// a change.
    mutating func forward(_ kind: String, _ devices: [String], _ request: GuestNICRequest) throws(Failure) -> Bool {
        var isChange = false
        for device in devices {
            let isNew = network.link(device) == nil && device != "all"
            let now = network.forwarding[isNew ? "\(kind)/default" : "\(kind)/\(device)"] ?? false
            if now { continue }
            guard network.canSetForwarding else {
                throw refuse(
                    request, "this container passes no packets on, and /proc/sys can't be written",
                    "docker run --sysctl net.\(kind == "ipv4" ? "ipv4.ip_forward" : "ipv6.conf.all.forwarding")=1",
                    .host)
            }
            isChange = true
            // What is set for all is set for each: one that stood out must do so again.
            for name in device == "all" ? network.links.map(\.name) + ["default"] : []
            where network.forwarding["\(kind)/\(name)"] == true {
                set(HostFacts.Network.forwardingFile("\(kind)/\(name)"), "0", before: "1")
            }
            set(HostFacts.Network.forwardingFile("\(kind)/\(device)"), "1", before: "0")
        }
        return isChange
    }
}
