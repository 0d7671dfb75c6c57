import Model
import Values

/// What several modes have in common: taps, addresses, name servers.
extension NetworkPlanner {
    var queues: Int { arguments.nicModel.hasPrefix("virtio-net") ? min(arguments.cpus, 8) : 1 }

    mutating func addTap(mtu: Int) throws(Failure) -> String {
        let name = "sv\(tag)t\(index)"
        try checkFree(name)
        plan.device = name
        plan.mtu = mtu
        plan.queues = queues
        plan.offload = arguments.nicOffload
        setVhost()
        return name
    }

    mutating func setVhost() {
        guard network.hasVhost, arguments.nicModel.hasPrefix("virtio-net") else { return }
        // Each of several queues has QEMU open it anew.
        if plan.queues == 1 || user == nil {
            plan.vhost = plan.queues == 1 ? .passed : .opened
        } else {
            part.notes.append(
                "\(plan.name) does without vhost-net: with several queues, QEMU would have to be root to open it")
        }
    }

    /// Has ip make the NIC's tap, with what comes before and after.
    mutating func addLinks(before: [String] = [], after: [String], undoneBy others: [Effect] = []) {
        let tap = plan.device ?? ""
        let user = user?.uid ?? facts.privileges.uid
        // For the machine's frames only: the kernel has nothing to say on it.
        let lines = [
            "tuntap add dev \(tap) mode tap user \(user)" + (plan.queues > 1 ? " multi_queue" : ""),
            "link set dev \(tap) address \(tapMAC) mtu \(plan.mtu ?? 1500) addrgenmode none",
        ]
        let made = Effect.tap(name: tap, isMultiQueue: plan.queues > 1, namespace: network.namespace)
        let ip = facts.tools.ip ?? "ip"
        part.effects.append(.links(before + lines + after, program: ip, undoneBy: [made] + others))
    }

    /// The tap's address is the highest that there can be: a bridge of others has the lowest of its ports, which must
    /// not change under it. The machine's own it can't be: the kernel would take its frames for itself.
    var tapMAC: MACAddress {
        var mac = plan.mac
        if mac.bytes[0] == 0xfe { mac.bytes[5] ^= 1 } else { mac.bytes[0] = 0xfe }
        return mac
    }

    func state(of link: HostFacts.Link) throws(Failure) -> InterfaceState {
        let routes = network.routes.filter { $0.device == link.name && !$0.isAutomatic }
        if let odd = routes.first(where: { $0.words == nil }) {
            throw refuse(
                "its route to \(odd.destination) is of a kind that could not be put back", "use --net nat or user")
        }
        return InterfaceState(of: link, in: network)
    }

    /// The addresses of a machine in a bridge.
    mutating func assign(_ address: AddressRequest, on link: HostFacts.Link) throws(Failure) {
        let own = link.ownAddresses
        if request.mac == link.mac {
            throw refuse("\(link.name) itself has this MAC address", "choose another with --mac", .usage)
        }
        switch address {
        case .none: break
        case .dhcp: plan.usesDHCP = true
        case .auto:
            if own.isEmpty {
                if request.mode.isJoined {
                    throw refuse(
                        "the bridge has no address, so what is free there is not known",
                        "give an address, or --address dhcp", .usage)
                }
                part.notes.append("\(link.name) has no address, so the machine gets none from here (--address)")
                plan.usesDHCP = true
            }
            let networks = AddressSearch.networks(of: link)
            if networks.isEmpty, let address = own.first?.address {
                throw refuse(
                    "\(link.name)'s network \(address) has no room for another address", "use --net takeover or nat")
            }
            for network in networks {
                guard let found = findings.addresses[AddressPlace(interface: link.name, family: network.family)] else {
                    if network.family == .six { continue }
                    throw Failure(
                        .network, "find", "a free address in \(network.network)", "others have all that were tried",
                        remedy: "give one with --address")
                }
                let address = NetworkAddress(found, prefix: network.prefix)
                plan.addresses.append(.init(address: address, gateway: gateway(link, in: network)))
            }
        case .fixed(let addresses):
            for fixed in addresses { plan.addresses.append(try within(fixed, link)) }
        }
    }

    func gateway(_ link: HostFacts.Link, in network: NetworkAddress) -> IPAddress? {
        guard let gateway = self.network.defaultRoute(of: link.name, network.family)?.gateway,
            network.contains(gateway) || gateway.isLinkLocal
        else { return nil }
        return gateway
    }

    func unfit(_ address: NetworkAddress, _ cause: String, _ remedy: String? = nil) -> Failure {
        Failure(.network, "give the machine", "\(address)", cause, remedy: remedy)
    }

    func within(_ fixed: GuestAddress, _ link: HostFacts.Link) throws(Failure) -> GuestAddress {
        let (address, own) = (fixed.address, link.ownAddresses)
        let networks = own.map(\.address.network)
        guard own.isEmpty || networks.contains(address.network) else {
            throw unfit(
                address, "it is outside of \(link.name)'s network",
                "that is \(networks.map(\.description).joined(separator: ", "))")
        }
        try checkHost(address)
        if let mine = own.first(where: { $0.address.address == address.address }) {
            throw unfit(address, "\(link.name) has \(mine.address) itself", "choose another, or --address auto")
        }
        let theirs = gateway(link, in: address.network)
        if theirs == address.address { throw unfit(address, "that is the gateway's") }
        if let holder = findings.holders[address.address] {
            throw unfit(address, "\(holder) has it already", "choose another, or --address auto")
        }
        try checkGateway(fixed, in: address.network)
        return .init(address: address, gateway: fixed.gateway ?? theirs)
    }

    func checkHost(_ address: NetworkAddress) throws(Failure) {
        if !address.isForHost { throw unfit(address, "that is no address for a host") }
    }

    func checkGateway(_ fixed: GuestAddress, in network: NetworkAddress) throws(Failure) {
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
    func behind(_ fixed: GuestAddress) throws(Failure) -> GuestAddress {
        let inner = fixed.address
        if !inner.isForHost || inner.family.bits - inner.prefix < 2 {
            throw unfit(inner, "it is no address for a host with a gateway beside it")
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

    /// A network that leads nowhere else from here.
    mutating func privateNetwork(prefix: Int) throws(Failure) -> NetworkAddress {
        for number in UInt128(0)..<256 {
            let network = NetworkAddress(IPAddress(.four, 0x0ae7_0000 | number << 8), prefix: prefix)
            if conflicting(NetworkAddress(network.address, prefix: 24)) != nil { continue }
            privateNetworks.append(NetworkAddress(network.address, prefix: 24))
            return network
        }
        throw refuse("the container has routes to all of 10.231.0.0/16", "give one with --address")
    }

    /// Routes by gateways that the machine can reach as well.
    func furtherRoutes(of link: HostFacts.Link) -> [GuestNICPlan.FurtherRoute] {
        network.routes.compactMap { route in
            guard route.device == link.name, route.isMain, route.destination.prefix > 0, let gateway = route.gateway,
                gateway.family == route.family, plan.addresses.contains(where: { $0.address.contains(gateway) })
            else { return nil }
            return .init(destination: route.destination, gateway: gateway)
        }
    }

    /// The container's own servers, or a relay to those that only the container can reach.
    mutating func setResolver(relay: [IPAddress]) {
        let families = Set(plan.addresses.map(\.address.family))
        let reachable = network.nameservers.filter {
            !$0.isLoopback && !$0.isLinkLocal && families.contains($0.family)
        }
        plan.nameservers = reachable.isEmpty && !network.nameservers.isEmpty ? relay : reachable
        plan.searchDomains = network.searchDomains
    }

    mutating func serve(on device: String, from link: HostFacts.Link) {
        let own = plan.addresses.compactMap { assigned in
            link.addresses.first { $0.address.contains(assigned.address.address) }?.address.address
        }
        // In a bridge of others without an address there, nothing can be served; the seed says it all the same.
        if !own.isEmpty {
            plan.routes = furtherRoutes(of: link)
            setResolver(relay: own)
            plan.usesDHCP = true
            let isOurs = !plan.mode.isJoined
            server.add(plan, on: device, at: own, reachesNetwork: true, advertises: isOurs, network.nameservers)
        }
        let relaysNames = plan.nameservers.contains(where: own.contains)
        let hearsRouters = link.hasIPv6 && link.acceptsAdvertisements != 0
        rules.guardBridge(plan, outside: plan.interface, hearsRouters: hearsRouters, relaysNames: relaysNames)
    }

    mutating func publishOnBridge(_ link: HostFacts.Link, _ bridge: String) throws(Failure) {
        guard let port = plan.published.first else { return }
        try checkPublished()
        if plan.addresses.isEmpty {
            throw Failure(
                .network, "publish", "\(port)", "the machine's address is not known beforehand",
                remedy: "use --address auto, or the machine's own address")
        }
        let own = link.ownAddresses.map(\.address.address)
        try checkPublishedAddresses(own)
        for guest in plan.addresses.map(\.address.address) where own.contains(where: { $0.family == guest.family }) {
            let kind = guest.isSix ? "ipv6" : "ipv4"
            if guest.isSix { keepListening(on: bridge, for: link) }
            let isChange = try forward(kind, guest.isSix ? ["all"] : [bridge])
            rules.publish(plan, to: guest, own: own, on: bridge, isNoRouter: isChange)
        }
    }

    /// Ports published at an address where nobody would find them are not what was wanted.
    func checkPublishedAddresses(_ own: [IPAddress]) throws(Failure) {
        for port in plan.published {
            guard let text = port.address, let address = IPAddress(text), address.value != 0, !own.contains(address)
            else { continue }
            throw Failure(
                .network, "publish", "\(port)", "\(address) is no address of \(plan.interface ?? "the container")",
                remedy: "leave it out, or give one of \(own.map(\.description).joined(separator: ", "))")
        }
    }

    /// A host that passes packets on would no longer hear what routers say: not by the interfaces that have heard it,
    /// nor by a bridge in the place of one.
    mutating func keepListening(on bridge: String? = nil, for link: HostFacts.Link? = nil) {
        guard network.canSetForwarding, network.forwarding["ipv6/all"] != true else { return }
        for other in network.links.filter(network.listens) {
            let name = other == link ? bridge ?? other.name : other.name
            set(HostFacts.Network.advertisementsFile(name), "2", before: "1")
        }
    }

    /// Makes a setting once, whichever NICs want it so.
    private mutating func set(_ path: String, _ value: String, before: String) {
        let step = Effect.setting(path: path, value: value, before: before, namespace: network.namespace)
        if !part.effects.contains(step) { part.effects.append(step) }
    }

    /// Packets may be passed on by these interfaces; those that are made take the default. Tells whether that is
    /// a change.
    mutating func forward(_ kind: String, _ devices: [String]) throws(Failure) -> Bool {
        var isChange = false
        for device in devices {
            let isNew = network.link(device) == nil && device != "all"
            let now = network.forwarding[isNew ? "\(kind)/default" : "\(kind)/\(device)"] ?? false
            if now { continue }
            guard network.canSetForwarding else {
                throw refuse(
                    "this container passes no packets on, and /proc/sys can't be written",
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
