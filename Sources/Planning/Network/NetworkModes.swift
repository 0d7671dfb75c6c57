import Model
import Values

/// What each mode is made of.
extension NetworkPlanner {
    mutating func planUser() throws(Failure) {
        if arguments.userNet == .passt {
            if facts.tools.passt == nil { throw Failure.missing("passt", package: "passt") }
            let instead = "use --user-net slirp"
            if !findings.hasPasst {
                throw refuse("passt can't shut itself in here, which needs user namespaces", instead, .host)
            }
            let first = facts.privileges.firstUnprivilegedPort
            if plan.published.contains(where: { $0.host < first }) {
                throw refuse("passt has no rights, and can't listen below port \(first)", instead, .host)
            }
            plan.usesPasst = true
        } else if let six = plan.published.first(where: { $0.address?.contains(":") == true }) {
            throw Failure(
                .network, "publish", "\(six)", "QEMU's user network forwards IPv4 only", remedy: "give an IPv4 address")
        }
        plan.usesDHCP = true
        plan.reachedAt = IPAddress(.four, 0x7f00_0001)
        switch request.address {
        case nil, .auto?, .dhcp?:
            let address = NetworkAddress(QEMUArguments.usualAddress, prefix: 24)
            plan.addresses = [.init(address: address, gateway: IPAddress(.four, 0x0a00_0202))]
        case .none?:
            throw refuse("QEMU's user network always gives an address", "leave out --address none", .usage)
        case .fixed(let addresses)?:
            guard addresses.count == 1, addresses[0].address.family == .four else {
                throw refuse("QEMU's user network has one IPv4 address to give", nil, .usage)
            }
            plan.addresses = try addresses.map { fixed throws(Failure) in try behind(fixed) }
        }
    }

    mutating func planBridge() throws(Failure) {
        let link = try interface(needs: [.netAdmin, .netRaw])
        if let why = link.whyNotBridged {
            let isBridge = link.kind == "bridge"
            throw refuse(why, isBridge ? "join it with --bridge \(link.name)" : "use --net takeover, nat or user")
        }
        let moved = try state(of: link)
        let bridge = "sv\(tag)b\(index)"
        try checkFree(bridge)
        plan.interface = link.name
        plan.bridge = bridge
        let tap = try addTap(mtu: link.mtu)
        try assign(request.address ?? .auto, on: link)
        // Routers speak to each other in frames (LLDP, 802.1X) that a bridge keeps to itself if it is not told
        // otherwise. The bridge's address is pinned, or it would change with the bridge's ports, and others would look
        // for it in vain for half a minute.
        var making = [
            "link add name \(bridge)\(link.mac.map { " address \($0)" } ?? "") mtu \(link.mtu) type bridge stp_state 0"
                + " forward_delay 0 mcast_snooping 0 group_fwd_mask 0xfff8"
        ]
        // The bridge may make a link-local address for itself where the interface had one.
        if !link.addresses.contains(where: \.isLinkLocal) { making.append("link set dev \(bridge) addrgenmode none") }
        addLinks(
            before: making, after: ["link set dev \(tap) master \(bridge) up"] + moved.moving(to: bridge),
            undoneBy: [.bridged(moved, by: bridge, namespace: network.namespace)])
        serve(on: bridge, from: link)
        try publishOnBridge(link, bridge)
    }

    mutating func planJoinedBridge(_ name: String) throws(Failure) {
        try checkName(name)
        try checkRights([.netAdmin])
        guard let link = network.link(name) else { throw refuse("there is no such bridge") }
        guard link.kind == "bridge" else {
            throw refuse("\(name) is no bridge but \(link.kind.map { "a \($0)" } ?? "a device")")
        }
        if !link.isUp { throw refuse("it is down", "ip link set \(name) up") }
        try refusePublished("the bridge is not ours to lead ports from")
        plan.bridge = name
        let tap = try addTap(mtu: link.mtu)
        try assign(request.address ?? .dhcp, on: link)
        if !plan.addresses.isEmpty { try checkRights([.netRaw]) }
        addLinks(after: ["link set dev \(tap) master \(name) up"])
        if findings.isDHCPTaken, !plan.addresses.isEmpty {
            part.notes.append(
                "another DHCP server is on this host, so \(plan.name)'s address is told by the seed disk alone")
        } else {
            serve(on: name, from: link)
        }
    }

    mutating func planTakeover() throws(Failure) {
        let link = try interface(needs: [.netAdmin])
        guard let mac = link.mac, link.hasMAC else { throw refuse("it has no MAC address") }
        if let given = request.mac, given != mac {
            throw refuse("the machine has the interface's MAC address \(mac) then", "leave out the other", .usage)
        }
        guard request.address ?? .auto == .auto else {
            throw refuse("the machine has the container's address then", "leave out --address", .usage)
        }
        for port in plan.published where port.host != port.guest || port.address != nil {
            throw Failure(
                .usage, "publish \(port) with", "--net takeover", "the machine has the container's ports as they are",
                remedy: "use the guest's own port, or --net nat")
        }
        try checkPublished()
        let own = link.ownAddresses
        if own.isEmpty { throw refuse("it has no address to take over") }
        plan.mac = mac
        plan.interface = link.name
        let tap = try addTap(mtu: link.mtu)
        plan.addresses = [IPAddress.Family.four, .six].flatMap { family in
            own.map(\.address).filter { $0.family == family }.enumerated().map { index, address in
                let route = index == 0 ? network.defaultRoute(of: link.name, family) : nil
                return .init(address: address, gateway: route?.gateway)
            }
        }
        // By these two each finds the other, since both have the same address.
        let between = try privateNetwork(prefix: 30)
        let ours = IPAddress(.four, between.first.value + 1)
        let alias = IPAddress(.four, between.first.value + 2)
        plan.reachedAt = alias
        addLinks(after: [
            "link set dev \(tap) up",
            "address add \(ours) peer \(alias) dev \(tap)",
            // The guest does not know this address, so it can't be asked whose it is.
            "neigh add \(alias) lladdr \(mac) dev \(tap) nud permanent",
        ])
        plan.routes = furtherRoutes(of: link)
        // What the guest sends to us goes by its gateway's name.
        setResolver(relay: plan.addresses.contains { $0.gateway?.isSix == false } ? [ours] : [])
        rules.takeOver(plan, from: link.name, as: ours, ourMAC: tapMAC)
        plan.usesDHCP = true
        server.add(plan, on: tap, at: [ours], reachesNetwork: false, advertises: false, network.nameservers)
    }

    mutating func planNAT() throws(Failure) {
        let link = try interface(needs: [.netAdmin, .netRaw])
        try checkPublished()
        plan.interface = link.name
        let tap = try addTap(mtu: link.mtu)
        switch request.address {
        case nil, .auto?:
            let inner = try privateNetwork(prefix: 24)
            let gateway = IPAddress(.four, inner.first.value + 1)
            let address = IPAddress(.four, inner.first.value + 2)
            plan.addresses = [.init(address: NetworkAddress(address, prefix: 24), gateway: gateway)]
            if link.ownAddresses.contains(where: { $0.address.family == .six }) {
                // A network of its own, as RFC 4193 has it, the same at each start.
                let number = UInt128(stableDigest("private network", uuid) & 0xff_ffff_ffff)
                let first = UInt128(0xfd) << 120 | number << 80 | UInt128(index) << 64
                let address = NetworkAddress(IPAddress(.six, first | 2), prefix: 64)
                plan.addresses.append(.init(address: address, gateway: IPAddress(.six, first | 1)))
            }
        case .fixed(let addresses)?:
            plan.addresses = try addresses.map { fixed throws(Failure) in
                if let other = conflicting(fixed.address) {
                    throw refuse("the container has a route to \(other)", "give the machine another network")
                }
                return try behind(fixed)
            }
        case .dhcp?, AddressRequest.none?:
            throw refuse(
                "the machine is behind the container's address, which gives it one of its own",
                "use --address auto, or an address", .usage)
        }
        let families = Set(plan.addresses.map(\.address.family))
        var lines = families.contains(.six) ? ["link set dev \(tap) addrgenmode eui64"] : []
        lines.append("link set dev \(tap) up")
        lines += plan.addresses.compactMap { assigned in
            assigned.gateway.map {
                "address add \($0)/\(assigned.address.prefix) dev \(tap)\($0.isSix ? " nodad" : "")"
            }
        }
        addLinks(after: lines)
        var opened: Set<String> = []
        if families.contains(.four), try forward("ipv4", [link.name, tap]) { opened.insert("ipv4") }
        if families.contains(.six) {
            keepListening()
            if try forward("ipv6", ["all"]) { opened.insert("ipv6") }
        }
        // Only the way out: what belongs to another NIC's network goes there.
        if index > 0, network.uplink?.name != link.name {
            plan.routes = link.ownAddresses.compactMap { own in
                let gateway = plan.addresses.first { $0.address.family == own.address.family }?.gateway
                return gateway.map { .init(destination: own.address.network, gateway: $0) }
            }
        }
        let gateways = plan.addresses.compactMap(\.gateway)
        setResolver(relay: gateways)
        let own = link.ownAddresses.map(\.address.address)
        try checkPublishedAddresses(own)
        rules.translate(plan, outside: link.name, own: own, opened: opened)
        plan.usesDHCP = true
        if !plan.routes.isEmpty {
            for index in plan.addresses.indices { plan.addresses[index].gateway = nil }
        }
        server.add(plan, on: tap, at: gateways, reachesNetwork: true, advertises: true, network.nameservers)
    }

    mutating func planJoinedTap(_ name: String) throws(Failure) {
        try checkName(name)
        guard let link = network.link(name) else { throw refuse("there is no such tap") }
        guard let tap = link.tap else { throw refuse("\(name) is no tap") }
        if !facts.privileges.hasTun { try checkRights([]) }
        try planJoined(link)
        plan.queues = tap.isMultiQueue ? queues : 1
        let opens = user?.uid ?? facts.privileges.uid
        if opens != 0, tap.owner.map({ $0 != opens }) ?? tap.hasGroup {
            throw refuse(
                "it is for user \(tap.owner.map(String.init) ?? "of its group") to open, and QEMU runs as \(opens)",
                "make it with 'user \(opens)', or use --qemu-user", .host)
        }
    }

    mutating func planMacvtap(_ name: String) throws(Failure) {
        try checkName(name)
        guard let link = network.link(name) else { throw refuse("there is no such macvtap") }
        guard let numbers = link.macvtap, let mac = link.mac else { throw refuse("\(name) is no macvtap") }
        try planJoined(link)
        if let given = request.mac, given != mac {
            throw refuse("the machine has the macvtap's MAC address \(mac) then", "leave out the other", .usage)
        }
        plan.mac = mac
        let path = "\(findings.folders.run)/\(name)"
        plan.device = path
        part.effects.append(.device(path: path, numbers: numbers))
    }

    mutating func planJoined(_ link: HostFacts.Link) throws(Failure) {
        try refusePublished("that network is not ours to lead ports from")
        if !link.isUp { throw refuse("it is down", "ip link set \(link.name) up") }
        plan.device = link.name
        plan.mtu = link.mtu
        plan.offload = arguments.nicOffload
        setVhost()
        switch request.address {
        case nil, .dhcp?: plan.usesDHCP = true
        case AddressRequest.none?: break
        case .auto?:
            throw refuse("which addresses are free there is not known", "give one, or --address dhcp", .usage)
        case .fixed(let addresses)?:
            plan.addresses = try addresses.map { fixed throws(Failure) in
                try checkHost(fixed.address)
                try checkGateway(fixed, in: fixed.address.network)
                return fixed
            }
        }
    }
}
