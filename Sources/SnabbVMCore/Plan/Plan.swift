/// What was found out about the user's files before the plan.
struct Inspected {
    var folders: Folders
    var image: DiskImage?
    var cdrom: DiskImage?
    var kernel: String?
    var initrd: String?
    var seed = SeedSources()
    /// What an earlier start left in the --state folder.
    var record: MachineRecord?
    var hasKeptDisk = false
    var hasKeptVariables = false
    var hasVNCPassword = false
    /// Addresses that were found to be free; and who has those that were asked for.
    var addresses: [AddressSearch.Place: IPAddress] = [:]
    var holders: [IPAddress: String] = [:]
    var secretFile: String?
    /// Another DHCP server than ours is in this network namespace.
    var isDHCPTaken = false
    /// passt is there and can run here.
    var hasPasst = false
    /// A port of 127.0.0.1 that can lead to the guest's SSH server.
    var freePort: Int?
    /// What tells this host from others, for names that must differ between them.
    var hostKey = ""
    /// Ports that could not be had, and why.
    var takenPorts: [(port: SocketAddress, why: String)] = []
    /// Files that QEMU opens by name, and that only their owner may read.
    var privateFiles: [String] = []
    var diskSpace: ByteCount?
    var programPath = "/proc/self/exe"
    /// The ports, those of the file too.
    var ports: [PortRequest] = []
    var portsFile: String?
    /// Where the switches' programs are.
    var switchFolder = "/usr/local/share/snabbvm/switch"
    /// What this host or container calls itself.
    var hostName = "localhost"
}

/// What --state keeps beside the disk: who the machine is, and what its disk stands on.
struct MachineRecord: Codable, Equatable {
    var uuid: String
    var image: DiskImage?
    var diskFormat: DiskFormat?
    var diskSize: ByteCount?
    var isOverlay: Bool
}

/// All that will be done, decided before anything is done: pure, from what is asked and what is there.
struct Plan: Codable, Equatable {
    var name: String
    var uuid: String
    var folders: Folders
    /// Lines for the user: what is not as one might expect.
    var notes: [String] = []
    var accelerator: AcceleratorChoice
    var memory: MemoryPlan
    var cpus: Int
    var disks: [DiskPlan] = []
    var networks: [NetworkPlan] = []
    /// What runs beside the machine, in the order in which it is started.
    var services: [ServicePlan] = []
    /// Leads to the guest's SSH server, where that can't be arranged later.
    var sshPort: Int?
    /// Where QEMU itself listens.
    var listens: [Int] = []
    var ports: [PortPlan] = []
    var layout: Layout?
    /// The ports as the command line has them, which the file can't change.
    var portRequests: [PortRequest] = []
    var portsFile: String?
    var vnc: SocketAddress?
    /// The user's file with the passphrase of an encrypted image.
    var secretSource: String?
    var firmware: Firmware
    var steps: [Step] = []
    var qemu: Command
    var stopTimeout: Double

    struct MemoryPlan: Codable, Equatable {
        var size: ByteCount
        var pageSize: ByteCount?
        var node: Int?
    }

    struct DiskPlan: Codable, Equatable {
        enum Role: String, Codable { case disk, cdrom, seed }
        var role: Role
        var path: String
        /// The image that it is an overlay on.
        var base: DiskImage?
        var format: DiskFormat
        var size: ByteCount?
        var isDevice = false
        /// The socket at which it is read, while it is not all here.
        var served: String?
    }
}

extension Plan {
    init(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) throws(Failure) {
        guard let qemuProgram = facts.tools.qemu else {
            throw Failure.missing("QEMU (\(arguments.qemu))", package: "qemu-system-x86")
        }
        guard let qemuImg = facts.tools.qemuImg else { throw Failure.missing("qemu-img", package: "qemu-utils") }
        name = arguments.name
        folders = inspected.folders
        cpus = arguments.cpus
        firmware = arguments.firmware
        stopTimeout = arguments.stopTimeout
        portRequests = arguments.ports
        portsFile = inspected.portsFile
        uuid = Plan.uuid(of: name, inspected)
        qemu = Command(program: qemuProgram, arguments: [])

        try Plan.checkPaths(folders)
        (accelerator, notes) = try Plan.accelerator(arguments, facts)
        let node = inspected.ports.isEmpty ? nil : Plan.node(of: inspected.ports, facts)
        memory = try Plan.memory(arguments, facts, near: node, notes: &notes)
        if cpus > facts.cpu.count {
            notes.append("\(cpus) virtual CPUs on a host with \(facts.cpu.count): they will wait for each other")
        }
        notes += inspected.seed.warnings
        vnc = Plan.vnc(arguments, facts, inspected, notes: &notes)
        let isQEMUs =
            Plan.networkMode(arguments, facts) == .user && !Plan.usesPasst(arguments, facts, inspected)
        let userPorts = isQEMUs ? arguments.published.map(\.host) : []
        listens = (vnc.map { [$0.port] } ?? []) + userPorts
        if let taken = inspected.takenPorts.first {
            throw Failure(
                .network, "listen on", "\(taken.port)", taken.why, remedy: "choose another with --vnc or --publish")
        }

        planFolders()
        try planDisks(arguments, facts, inspected, qemuImg: qemuImg)
        let networkSteps = try planNetworks(arguments, facts, inspected)
        try planSeed(arguments, facts, inspected)
        steps += networkSteps
        try planPorts(arguments, facts, inspected)
        planConsoles(arguments, facts, inspected)
        try finishQEMU(arguments, facts, inspected)
    }

    private static func checkPaths(_ folders: Folders) throws(Failure) {
        try checkSocketPath(folders.control)
    }

    static func checkSocketPath(_ socket: String) throws(Failure) {
        guard socket.utf8.count > Folders.longestSocketPath else { return }
        throw Failure(
            .usage, "use", socket, "a socket's path can't be longer than \(Folders.longestSocketPath) bytes",
            remedy: "choose a shorter --name or --run-dir")
    }

    static func uuid(of name: String, _ inspected: Inspected) -> String {
        inspected.record?.uuid ?? stableUUID(name, inspected.hostKey)
    }

    /// 128 bits that are the same at each start of this machine on this host, in the form of a random UUID.
    static func stableUUID(_ name: String, _ hostKey: String) -> String {
        let high = (stableDigest("uuid high", name, hostKey) & ~0xf000) | 0x4000
        let low = (stableDigest("uuid low", name, hostKey) & ~(0b11 << 62)) | (0b10 << 62)
        let text = hexadecimal(high, digits: 16) + hexadecimal(low, digits: 16)
        var parts: [String] = []
        var rest = text[...]
        for length in [8, 4, 4, 4, 12] {
            parts.append(String(rest.prefix(length)))
            rest = rest.dropFirst(length)
        }
        return parts.joined(separator: "-")
    }

    /// Where VNC listens. In a container the port is published or not by Docker; on a host it is for this host alone.
    static func defaultVNC(_ facts: Facts) -> SocketAddress {
        SocketAddress(host: facts.privileges.inContainer ? "0.0.0.0" : "127.0.0.1", port: 5901)
    }

    static func vncAddress(_ arguments: Arguments, _ facts: Facts) -> SocketAddress? {
        switch arguments.vnc {
        case .off: return nil
        case nil: return defaultVNC(facts)
        case .at(var address):
            if address.host.isEmpty { address.host = defaultVNC(facts).host }
            return address
        }
    }

    private static func vnc(
        _ arguments: Arguments, _ facts: Facts, _ inspected: Inspected, notes: inout [String]
    ) -> SocketAddress? {
        guard let address = vncAddress(arguments, facts) else { return nil }
        let isLocal = address.host.hasPrefix("127.") || address.host == "::1"
        if !isLocal, !inspected.hasVNCPassword {
            notes.append("VNC on \(address) has no password; give one with --vnc-password-file")
        }
        return address
    }

    /// It has no rights, so low ports are not for it.
    static func usesPasst(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) -> Bool {
        let isLow = arguments.published.contains { $0.host < facts.privileges.firstUnprivilegedPort }
        return arguments.userNet == .passt && inspected.hasPasst && !isLow
    }

    private mutating func planPasst(_ facts: Facts, _ inspected: Inspected, _ user: User?) {
        guard let program = facts.tools.passt, let nic = networks.first(where: \.usesPasst) else { return }
        // It does not stay root, so its folder must not be root's.
        let user = user ?? facts.privileges.qemuUser
        var options = ["--mtu", "1500"]
        if let given = nic.addresses.first, let gateway = given.gateway {
            options += ["--address", "\(given.address.address)", "--netmask", "\(given.address.netmask)"]
            options += ["--gateway", "\(gateway)"]
        }
        for port in nic.published {
            options += [port.udp ? "-u" : "-t", (port.address.map { "\($0)/" } ?? "") + "\(port.host):\(port.guest)"]
        }
        if !nic.published.contains(where: { $0.guest == 22 && !$0.udp }), let port = inspected.freePort {
            sshPort = port
            options += ["-t", "127.0.0.1/\(port):22"]
        }
        steps.append(.folder(path: folders.passtFolder, mode: 0o700, isShared: false, owner: user))
        // It would leave its socket behind.
        steps.append(.place(path: folders.passt))
        services.append(.passt(program, options, socket: folders.passt, user))
    }

    /// Decides the NICs; returns what is to be done for them.
    private mutating func planNetworks(
        _ arguments: Arguments, _ facts: Facts, _ inspected: Inspected
    ) throws(Failure) -> [Step] {
        if arguments.net == nil, arguments.bridge == nil, facts.privileges.inContainer,
            facts.privileges.has(.netAdmin), let why = Plan.whyNotBridged(facts)
        {
            notes.append("eth0 is on a user network (--net user): \(why)")
        }
        let user = qemuUser(facts, inspected)
        var planner = NetworkPlanner(
            arguments, facts, inspected, uuid: uuid, user: user, ownPorts: vnc.map { [$0.port] } ?? [])
        let requests = try Plan.nicRequests(arguments, facts)
        if arguments.netAll {
            let left = (facts.network?.links ?? []).filter { link in
                link.name != "lo" && !requests.contains { $0.interface == link.name }
            }
            for link in left {
                notes.append("--net-all leaves out \(link.name): it can't be used with --net \(requests[0].mode)")
            }
        }
        for (index, request) in requests.enumerated() {
            networks.append(try planner.plan(request, index: index))
        }
        try checkDistinct()
        try planner.finish()
        notes += planner.notes
        planPasst(facts, inspected, user)
        guard !planner.server.isEmpty, let program = facts.tools.dnsmasq else { return planner.steps }
        // It needs no more rights than are for DHCP, and keeps those.
        let text = planner.server.text(
            user: facts.privileges.uid == 0 && facts.privileges.canRunOthers ? "nobody" : nil)
        services.append(.addressServer(program, settings: folders.dnsmasqSettings))
        return planner.steps + [
            .file(path: folders.dnsmasqSettings, mode: 0o600, FileContent(text)),
            .file(path: folders.leases, mode: 0o600, FileContent("")),
        ]
    }

    /// What one NIC has another can't have, and a port leads to one place.
    private func checkDistinct() throws(Failure) {
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

    /// Locally administered, the same at each start, and another for each machine and port.
    static func macAddress(_ uuid: String, _ port: String) -> MACAddress {
        let digest = stableDigest("mac", uuid, port)
        let bytes = [40, 0, 8, 16, 24, 32].map { UInt8(truncatingIfNeeded: digest >> UInt64($0)) }
        return MACAddress(bytes: [bytes[0] & 0xfc | 0x02] + bytes[1...])
    }

    // MARK: - Consoles

    static let pipes = ["serial", "qmp", "agent"]

    private mutating func planConsoles(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) {
        let owner = qemuUser(facts, inspected)
        for name in Plan.pipes {
            for end in ["in", "out"] { steps.append(.pipe(path: "\(folders.pipe(name)).\(end)", owner: owner)) }
        }
        guard let tmuxProgram = facts.tools.tmux else {
            notes.append("no tmux, so the machine's screen can only be seen by VNC (apt-get install tmux)")
            return
        }
        let settings = TmuxSettings(
            name: name, session: folders.tmuxSession, program: inspected.programPath, base: folders.base,
            firmware: firmware, ports: ports.map(\.name))
        steps.append(.file(path: folders.tmuxSettings, mode: 0o600, FileContent(settings.text)))
        // Whoever is the same user may have it run what he likes.
        let user = facts.privileges.qemuUser
        services.append(.windows(tmuxProgram, folders, user?.uid == 0 ? user : nil))
    }

    /// As whom QEMU runs: without rights, unless what it needs is only for root.
    func qemuUser(_ facts: Facts, _ inspected: Inspected) -> User? {
        guard var user = facts.privileges.qemuUser else { return nil }
        if inspected.ports.contains(where: { Engines.named($0.settings.engine ?? .snabb).needsRoot }) { return nil }
        // What is root's own is open to root without any right, too.
        if user.uid != 0 {
            if !inspected.privateFiles.isEmpty { return nil }
            if accelerator == .kvm, !facts.kvm.forAnyone {
                guard let group = facts.kvm.group else { return nil }
                user.groups.append(group)
            }
        }
        return listens.contains { $0 < facts.privileges.firstUnprivilegedPort } ? nil : user
    }

    private mutating func finishQEMU(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) throws(Failure) {
        qemu.user = qemuUser(facts, inspected)
        if facts.privileges.qemuUser != nil, qemu.user == nil {
            let why =
                inspected.privateFiles.first.map { "\($0) is not for others to read" }
                ?? "a port, /dev/kvm or /dev/vfio is root's"
            notes.append("QEMU runs as root, since \(why)")
        }
        if qemu.user?.uid == 0, facts.privileges.capabilities != 0 {
            notes.append(
                "QEMU runs as root, though without any right: with \(Facts.Privileges.namesToRunOthers) it would be nobody"
            )
        }
        qemu.cpus = layout?.machineCPUs ?? []
        qemu.environment = ["LC_ALL": "C.UTF-8", "TERM": "screen-256color", "HOME": "/nonexistent"]
        let command = QEMUArguments(self, arguments, facts, inspected)
        qemu.arguments = command.words
        qemu.files = command.files
    }
}
