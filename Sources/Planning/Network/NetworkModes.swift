import Model
import Values

/// What each mode is made of.
extension NetworkPlanner {
    mutating func planUser(_ plan: inout GuestNICPlan, _ request: GuestNICRequest) throws(Failure) {
        plan.usesPasst = Plan.usesPasst(arguments, facts, findings)
        if arguments.userNet == .passt, !plan.usesPasst {
            throw facts.tools.passt == nil
                ? Failure.missing("passt", package: "passt")
                : refuse(
                    request,
                    findings.hasPasst
                        ? "passt has no rights, and can't listen below port \(facts.privileges.firstUnprivilegedPort)"
                        : "passt can't shut itself in here, which needs user namespaces", "use --user-net slirp", .host)
        }
        if !plan.usesPasst, let six = plan.published.first(where: { $0.address?.contains(":") == true }) {
            throw Failure(
                .network, "publish", "\(six)", "QEMU's user network forwards IPv4 only", remedy: "give an IPv4 address")
        }
        plan.usesDHCP = true
        plan.reachedAt = IPAddress(.four, 0x7f00_0001)
        switch request.address {
        case nil, .auto?, .dhcp?:
            plan.addresses = [
                .init(address: NetworkAddress("10.0.2.15/24")!, gateway: IPAddress(.four, 0x0a00_0202))
            ]
        case .none?:
            throw refuse(request, "QEMU's user network always gives an address", "leave out --address none", .usage)
        case .fixed(let addresses)?:
            guard addresses.count == 1, addresses[0].address.family == .four else {
                throw refuse(request, "QEMU's user network has one IPv4 address to give", nil, .usage)
            }
            plan.addresses = try addresses.map { fixed throws(Failure) in try behind(fixed) }
        }
    }

    mutating func planBridge(
        _ plan: inout GuestNICPlan, _ request: GuestNICRequest, _ index: Int
    ) throws(Failure) {
        let link = try interface(request, needs: [.netAdmin, .netRaw])
        if let why = link.whyNotBridged {
            throw refuse(
                request, why,
                link.kind == "bridge" ? "join it with --bridge \(link.name)" : "use --net takeover, nat or user")
        }
        let moved = try state(of: link, request)
        let bridge = "sv\(tag)b\(index)"
        try checkFree(bridge)
        plan.interface = link.name
        plan.bridge = bridge
        let tap = try addTap(&plan, mtu: link.mtu, index)
        try assign(&plan, request, on: link)
        // Routers speak to each other in frames (LLDP, 802.1X) that a bridge keeps to itself if it is not told otherwise.
        // Its address is pinned, or it would change with its ports, and others would look for this address in vain for half a minute.
        var batch = [
            "link add name \(bridge)\(link.mac.map { " address \($0)" } ?? "") mtu \(link.mtu) type bridge stp_state 0"
                + " forward_delay 0 mcast_snooping 0 group_fwd_mask 0xfff8"
        ]
        // Addresses that it makes for itself it may have where the interface had one.
        if !link.addresses.contains(where: \.isLinkLocal) { batch.append("link set dev \(bridge) addrgenmode none") }
        batch += tapLines(plan) + ["link set dev \(tap) master \(bridge) up"]
        batch += moved.moving(to: bridge)
        effects.append(
            .links(
                batch, program: ip,
                undoneBy: tapChange(plan) + [.bridged(moved, by: bridge, namespace: network.namespace)]))
        serve(&plan, on: bridge, from: link)
        try publishOnBridge(plan, link, bridge)
    }

    mutating func planJoinedBridge(
        _ name: String, _ plan: inout GuestNICPlan, _ request: GuestNICRequest, _ index: Int
    ) throws(Failure) {
        try checkName(name, request)
        try checkRights(request, [.netAdmin])
        guard let link = network.link(name) else { throw refuse(request, "there is no such bridge") }
        guard link.kind == "bridge" else {
            throw refuse(request, "\(name) is no bridge but \(link.kind.map { "a \($0)" } ?? "a device")")
        }
        if !link.isUp { throw refuse(request, "it is down", "ip link set \(name) up") }
        try refusePublished(plan, request, "the bridge is not ours to lead ports from")
        plan.bridge = name
        let tap = try addTap(&plan, mtu: link.mtu, index)
        var request = request
        request.address = request.address ?? .dhcp
        try assign(&plan, request, on: link)
        if !plan.addresses.isEmpty { try checkRights(request, [.netRaw]) }
        effects.append(
            .links(
                tapLines(plan) + ["link set dev \(tap) master \(name) up"], program: ip,
                undoneBy: tapChange(plan)))
        if findings.isDHCPTaken, !plan.addresses.isEmpty {
            notes.append(
                "another DHCP server is on this host, so \(plan.name)'s address is told by the seed disk alone")
        } else {
            serve(&plan, on: name, from: link)
        }
    }

    mutating func planTakeover(
        _ plan: inout GuestNICPlan, _ request: GuestNICRequest, _ index: Int
    ) throws(Failure) {
        let link = try interface(request, needs: [.netAdmin])
        guard let mac = link.mac, link.hasMAC else {
            throw refuse(request, "it has no MAC address")
        }
        if let given = request.mac, given != mac {
            throw refuse(
                request, "the machine has the interface's MAC address \(mac) then", "leave out the other", .usage)
        }
        guard request.address ?? .auto == .auto else {
            throw refuse(request, "the machine has the container's address then", "leave out --address", .usage)
        }
        for port in plan.published where port.host != port.guest || port.address != nil {
            throw Failure(
                .usage, "publish \(port) with", "--net takeover", "the machine has the container's ports as they are",
                remedy: "use the guest's own port, or --net nat")
        }
        try checkPublished(plan)
        let own = link.ownAddresses
        if own.isEmpty { throw refuse(request, "it has no address to take over") }
        plan.mac = mac
        plan.interface = link.name
        let tap = try addTap(&plan, mtu: link.mtu, index)
        plan.addresses = [IPAddress.Family.four, .six].flatMap { family in
            own.map(\.address).filter { $0.family == family }.enumerated().map { index, address in
                let route = index == 0 ? network.defaultRoute(of: link.name, family) : nil
                return .init(address: address, gateway: route?.gateway)
            }
        }
        // By these two each finds the other, since both have the same address.
        let between = try privateNetwork(prefix: 30, request)
        let ours = IPAddress(.four, between.first.value + 1)
        let alias = IPAddress(.four, between.first.value + 2)
        plan.reachedAt = alias
        let lines =
            tapLines(plan) + [
                "link set dev \(tap) up",
                "address add \(ours) peer \(alias) dev \(tap)",
                // Which the guest does not know, so it can't be asked whose it is.
                "neigh add \(alias) lladdr \(mac) dev \(tap) nud permanent",
            ]
        effects.append(.links(lines, program: ip, undoneBy: tapChange(plan)))
        plan.routes = furtherRoutes(of: link, plan)
        // What the guest sends to us goes by its gateway's name.
        setResolver(&plan, relay: plan.addresses.contains { $0.gateway?.isSix == false } ? [ours] : [])
        rules.takeOver(plan, from: link.name, as: ours, ourMAC: tapMAC(plan))
        plan.usesDHCP = true
        server.add(plan, on: tap, at: [ours], reachesNetwork: false, advertises: false, network.nameservers)
    }

    mutating func planNAT(_ plan: inout GuestNICPlan, _ request: GuestNICRequest, _ index: Int) throws(Failure) {
        let link = try interface(request, needs: [.netAdmin, .netRaw])
        try checkPublished(plan)
        plan.interface = link.name
        let tap = try addTap(&plan, mtu: link.mtu, index)
        switch request.address {
        case nil, .auto?:
            let inner = try privateNetwork(prefix: 24, request)
            let gateway = IPAddress(.four, inner.first.value + 1)
            let address = IPAddress(.four, inner.first.value + 2)
            plan.addresses = [.init(address: NetworkAddress(address, prefix: 24), gateway: gateway)]
            if link.ownAddresses.contains(where: { $0.address.family == .six }) {
                // A network of its own, as RFC 4193 has it, the same at each start.
                let number = UInt128(stableDigest("private network", uuid) & 0xff_ffff_ffff)
                let first = UInt128(0xfd) << 120 | number << 80 | UInt128(index) << 64
                plan.addresses.append(
                    .init(
                        address: NetworkAddress(IPAddress(.six, first | 2), prefix: 64),
                        gateway: IPAddress(.six, first | 1)))
            }
        case .fixed(let addresses)?:
            plan.addresses = try addresses.map { fixed throws(Failure) in
                if let other = conflicting(fixed.address) {
                    throw refuse(request, "the container has a route to \(other)", "give the machine another network")
                }
                return try behind(fixed)
            }
        case .dhcp?, AddressRequest.none?:
            throw refuse(
                request, "the machine is behind the container's address, which gives it one of its own",
                "use --address auto, or an address", .usage)
        }
        var lines = tapLines(plan) + ["link set dev \(tap) up"]
        if plan.addresses.contains(where: { $0.address.family == .six }) {
            lines.insert("link set dev \(tap) addrgenmode eui64", at: lines.count - 1)
        }
        lines += plan.addresses.compactMap { assigned in
            assigned.gateway.map {
                "address add \($0)/\(assigned.address.prefix) dev \(tap)" + ($0.isSix ? " nodad" : "")
            }
        }
        effects.append(.links(lines, program: ip, undoneBy: tapChange(plan)))
        let families = Set(plan.addresses.map(\.address.family))
        var opened: Set<String> = []
        if families.contains(.four), try forward("ipv4", [link.name, tap], request) { opened.insert("ipv4") }
        if families.contains(.six) {
            keepListening()
            if try forward("ipv6", ["all"], request) { opened.insert("ipv6") }
        }
        // Only the way out: what belongs to another NIC's network goes there.
        if index > 0, network.uplink?.name != link.name {
            plan.routes = link.ownAddresses.compactMap { own in
                let gateway = plan.addresses.first { $0.address.family == own.address.family }?.gateway
                return gateway.map { .init(destination: own.address.network, gateway: $0) }
            }
        }
        let gateways = plan.addresses.compactMap(\.gateway)
        setResolver(&plan, relay: gateways)
        let own = link.ownAddresses.map(\.address.address)
        try checkPublishedAddresses(plan, own)
        rules.translate(plan, outside: link.name, own: own, opened: opened)
        plan.usesDHCP = true
        if !plan.routes.isEmpty {
            for index in plan.addresses.indices { plan.addresses[index].gateway = nil }
        }
        server.add(plan, on: tap, at: gateways, reachesNetwork: true, advertises: true, network.nameservers)
    }

    mutating func planJoinedTap(
        _ name: String, _ plan: inout GuestNICPlan, _ request: GuestNICRequest
    ) throws(Failure) {
        try checkName(name, request)
        guard let link = network.link(name) else { throw refuse(request, "there is no such tap") }
        guard let tap = link.tap else { throw refuse(request, "\(name) is no tap") }
        if !facts.privileges.hasTun { try checkRights(request, []) }
        try planJoined(&plan, request, link)
        plan.queues = tap.isMultiQueue ? queues : 1
        let opens = user?.uid ?? facts.privileges.uid
        if opens != 0, tap.owner.map({ $0 != opens }) ?? tap.hasGroup {
            throw refuse(
                request,
                "it is for user \(tap.owner.map(String.init) ?? "of its group") to open, and QEMU runs as \(opens)",
                "make it with 'user \(opens)', or use --qemu-user", .host)
        }
    }

    mutating func planMacvtap(
        _ name: String, _ plan: inout GuestNICPlan, _ request: GuestNICRequest
    ) throws(Failure) {
        try checkName(name, request)
        guard let link = network.link(name) else { throw refuse(request, "there is no such macvtap") }
        guard let numbers = link.macvtap, let mac = link.mac else { throw refuse(request, "\(name) is no macvtap") }
        try planJoined(&plan, request, link)
        if let given = request.mac, given != mac {
            throw refuse(
                request, "the machine has the macvtap's MAC address \(mac) then", "leave out the other", .usage)
        }
        plan.mac = mac
        plan.device = "\(findings.folders.run)/\(name)"
        effects.append(.device(path: "\(findings.folders.run)/\(name)", numbers: numbers))
    }

    mutating func planJoined(
        _ plan: inout GuestNICPlan, _ request: GuestNICRequest, _ link: HostFacts.Link
    ) throws(Failure) {
        try refusePublished(plan, request, "that network is not ours to lead ports from")
        if !link.isUp { throw refuse(request, "it is down", "ip link set \(link.name) up") }
        plan.device = link.name
        plan.mtu = link.mtu
        plan.offload = arguments.nicOffload
        setVhost(&plan)
        switch request.address {
        case nil, .dhcp?: plan.usesDHCP = true
        case AddressRequest.none?: break
        case .auto?:
            throw refuse(
                request, "which addresses are free there is not known", "give one, or --address dhcp", .usage)
        case .fixed(let addresses)?:
            plan.addresses = try addresses.map { fixed throws(Failure) in
                try checkHost(fixed.address)
                try checkGateway(fixed, in: fixed.address.network)
                return .init(address: fixed.address, gateway: fixed.gateway)
            }
        }
    }
}
