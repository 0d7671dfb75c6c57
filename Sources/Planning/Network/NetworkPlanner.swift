import Model
import Values

/// Plans the machine's NICs, one after the other, and what belongs to all of them. Refuses what can't be had, before
/// anything is changed.
struct NetworkPlanner {
    let arguments: Arguments
    let facts: HostFacts
    let findings: Findings
    let wishes: Wishes
    let uuid: String
    let user: User?
    let network: HostFacts.Network
    /// In every name that is ours in this network: other machines can be in it too.
    let tag: String
    var rules: NetworkRules
    var server = AddressServer()
    var privateNetworks: [NetworkAddress] = []
    /// The NICs up to the one that is being planned, and what follows from them.
    var part: PlanPart<[GuestNICPlan]>

    /// The NIC that is being planned.
    var plan: GuestNICPlan {
        get { part.decision[index] }
        set { part.decision[index] = newValue }
    }
    var index: Int { part.decision.count - 1 }
    var request: GuestNICRequest { wishes.guestNICs[index] }

    static func plan(
        _ arguments: Arguments, _ facts: HostFacts, _ findings: Findings, _ wishes: Wishes, uuid: String, user: User?
    ) throws(Failure) -> PlanPart<[GuestNICPlan]> {
        let tag = hexadecimal(stableDigest("network", uuid, findings.folders.base) & 0xff_ffff, digits: 6)
        var planner = NetworkPlanner(
            arguments: arguments, facts: facts, findings: findings, wishes: wishes, uuid: uuid, user: user,
            network: facts.network ?? HostFacts.Network(isOwn: false), tag: tag,
            rules: NetworkRules(name: "snabbvm_\(tag)", ownListeners: [wishes.vnc?.port].compactMap(\.self)),
            part: PlanPart(decision: [], notes: notes(arguments, facts, wishes)))
        for (index, request) in wishes.guestNICs.enumerated() {
            let name = "eth\(index)"
            planner.part.decision.append(
                GuestNICPlan(
                    name: name, mode: request.mode, mac: request.mac ?? MachineIdentity.macAddress(uuid, name),
                    model: arguments.nicModel, published: index == 0 ? arguments.published : []))
            try planner.decide()
        }
        try checkDistinct(planner.part.decision)
        try planner.finish()
        return planner.part
    }

    private static func notes(_ arguments: Arguments, _ facts: HostFacts, _ wishes: Wishes) -> [String] {
        var notes: [String] = []
        if arguments.net == nil, arguments.bridge == nil, facts.privileges.inContainer,
            facts.privileges.has(.netAdmin), let why = Wishes.whyNotBridged(facts)
        {
            notes.append("eth0 is on a user network (--net user): \(why)")
        }
        guard arguments.netAll else { return notes }
        let left = (facts.network?.links ?? []).filter { link in
            link.name != "lo" && !wishes.guestNICs.contains { $0.interface == link.name }
        }
        return notes
            + left.map { "--net-all leaves out \($0.name): it can't be used with --net \(wishes.mode)" }
    }

    /// What one NIC has another can't have, and a port leads to one place.
    private static func checkDistinct(_ networks: [GuestNICPlan]) throws(Failure) {
        for (index, nic) in networks.enumerated() {
            for other in networks[..<index] {
                if nic.mac == other.mac {
                    throw Failure(
                        .usage, "use", "MAC address \(nic.mac) for \(nic.name)", "\(other.name) has it",
                        remedy: "give each its own")
                }
                if let device = nic.device, device == other.device {
                    throw Failure(.usage, "use", "\(device) for \(nic.name)", "\(other.name) has it")
                }
            }
        }
        let published = networks.first?.published ?? []
        for (index, port) in published.enumerated() {
            guard let other = published[..<index].first(where: port.overlaps) else { continue }
            throw Failure(.usage, "publish", "\(port)", "\(other.host) leads to the guest's \(other.guest) already")
        }
    }

    private mutating func decide() throws(Failure) {
        switch request.mode {
        case .none: break
        case .user: try planUser()
        case .bridge(nil): try planBridge()
        case .bridge(let name?): try planJoinedBridge(name)
        case .takeover: try planTakeover()
        case .nat: try planNAT()
        case .tap(let name): try planJoinedTap(name)
        case .macvtap(let name): try planMacvtap(name)
        }
    }

    /// What belongs to all NICs together: the rules, and dnsmasq where there are addresses to give.
    private mutating func finish() throws(Failure) {
        if let text = rules.text {
            guard let nft = facts.tools.nft else { throw Failure.missing("nft", package: "nftables") }
            part.effects.append(.tables(name: rules.name, families: rules.families, text: text, program: nft))
        }
        if server.isEmpty { return }
        guard let program = facts.tools.dnsmasq else { throw Failure.missing("dnsmasq", package: "dnsmasq-base") }
        // DHCP's port is 67.
        if facts.privileges.firstUnprivilegedPort > 67, !facts.privileges.has(.netBindService) {
            throw Failure(
                .host, "serve", "the machine's address", "it needs the right NET_BIND_SERVICE",
                remedy: facts.privileges.inContainer ? "docker run --cap-add NET_BIND_SERVICE" : "run it as root")
        }
        // dnsmasq needs no more rights than are for DHCP, and keeps those as another user.
        let isNobody = facts.privileges.uid == 0 && facts.privileges.canRunOthers
        let (settings, leases) = (findings.folders.dnsmasqSettings, findings.folders.leases)
        let text = server.text(
            leases: leases, user: isNobody ? "nobody" : nil, logsQuestions: arguments.verbosity == .verbose)
        part.effects += [
            .file(path: settings, mode: 0o600, FileContent(text)),
            .file(path: leases, mode: 0o600, FileContent("")),
        ]
        part.services = [.addressServer(program, settings: settings)]
    }

    // MARK: - What is refused

    func refuse(_ cause: String, _ remedy: String? = nil, _ kind: FailureKind = .network) -> Failure {
        let isFurther = index > 0 && !arguments.netAll
        let option = isFurther ? "--nic \(request.interface)=" : "--net "
        let place = request.mode.usesInterface && !isFurther ? " with \(request.interface)" : ""
        return Failure(kind, "use", "\(option)\(request.mode)\(place)", cause, remedy: remedy)
    }

    func checkRights(_ capabilities: [HostFacts.Privileges.Capability]) throws(Failure) {
        for capability in capabilities where !facts.privileges.has(capability) {
            throw refuse(
                "it needs the right \(capability.name)",
                facts.privileges.inContainer
                    ? "docker run --cap-add \(capability.name), or --net user" : "run it as root, or use --net user",
                .host)
        }
        if !facts.privileges.hasTun {
            throw refuse("/dev/net/tun can't be opened", "docker run --device /dev/net/tun, or --net user", .host)
        }
        if facts.tools.ip == nil { throw Failure.missing("ip", package: "iproute2") }
    }

    /// The container's interface, if it is one that can be used up by a machine.
    func interface(needs capabilities: [HostFacts.Privileges.Capability]) throws(Failure) -> HostFacts.Link {
        if !network.isOwn {
            throw refuse(
                "this is the host's own network, whose interfaces are not taken away from it",
                "join a bridge that is there with --bridge NAME, or use --net user")
        }
        try checkRights(capabilities)
        guard let link = network.link(request.interface) else {
            let others = network.links.map(\.name).filter { $0 != "lo" }.joined(separator: ", ")
            throw refuse("there is no such interface", others.isEmpty ? nil : "there is \(others)")
        }
        if findings.ports.contains(where: { $0.source == .interface(link.name) }) {
            throw refuse("it is to be a NIC port", "give another with --interface, or use --net user", .usage)
        }
        if link.name == "lo" { throw refuse("it leads nowhere") }
        if !link.isUp { throw refuse("it is down", "ip link set \(link.name) up") }
        if let master = link.master {
            throw refuse("it is in \(master) already", "join that with --bridge \(master)")
        }
        return link
    }

    func checkFree(_ name: String) throws(Failure) {
        guard network.link(name) != nil else { return }
        throw Failure(.network, "make", name, "there is an interface of this name", remedy: "ip link delete \(name)")
    }

    func checkName(_ name: String) throws(Failure) {
        if name.utf8.count > 15 {
            throw refuse("the name of an interface has 15 characters at most", nil, .usage)
        }
    }

    func refusePublished(_ cause: String) throws(Failure) {
        guard let port = plan.published.first else { return }
        throw Failure(.usage, "publish \(port) with", "--net \(request.mode)", cause)
    }

    /// Ports that the launcher has for itself can't lead to the guest.
    func checkPublished() throws(Failure) {
        for port in plan.published where !port.udp && rules.ownListeners.contains(port.host) {
            throw Failure(
                .network, "publish", "\(port)", "VNC listens on \(port.host)",
                remedy: "choose another with --vnc or --publish")
        }
    }
}
