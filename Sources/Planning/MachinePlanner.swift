import Model
import Values

/// A plan is made of what small planners return, each a decision with what follows from it; nothing begins empty and is
/// filled later. Whatever can be refused is refused here.
extension Plan {
    package init(_ arguments: Arguments, _ facts: HostFacts, _ findings: Findings) throws(Failure) {
        guard let qemuProgram = facts.tools.qemu else {
            throw Failure.missing("QEMU (\(arguments.qemu))", package: "qemu-system-x86")
        }
        guard let qemuImg = facts.tools.qemuImg else { throw Failure.missing("qemu-img", package: "qemu-utils") }
        let (name, folders) = (arguments.name, findings.folders)
        try Plan.checkSocketPath(folders.control)
        let wishes = try Wishes(arguments, facts)
        let uuid = Plan.uuid(of: name, findings.record, hostKey: findings.hostKey)
        let accelerator = try Plan.accelerator(arguments, facts)
        let node = findings.ports.isEmpty ? nil : Plan.node(of: findings.ports, facts)
        let memory = try Plan.memory(arguments, facts, near: node)
        if let taken = findings.takenListeners.first {
            throw Failure(
                .network, "listen on", "\(taken.address)", taken.why, remedy: "choose another with --vnc or --publish")
        }
        let user = Plan.qemuUser(arguments, facts, findings, wishes, accelerator: accelerator.decision)
        let disks = try DiskPlanner(
            arguments: arguments, facts: facts, findings: findings, qemuImg: qemuImg, uuid: uuid, user: user.decision
        ).plan()
        let networks = try NetworkPlanner.plan(arguments, facts, findings, wishes, uuid: uuid, user: user.decision)
        let passt = Plan.passt(networks.decision, facts, findings, user.decision)
        let seed = try Plan.seed(arguments, facts, findings, networks.decision, uuid: uuid)
        let ports = try PortPlanner.plan(
            arguments, facts, findings, uuid: uuid, after: networks.decision.count, memory: memory.decision,
            user: user.decision)
        let consoles = Plan.consoles(
            arguments, facts, findings, ports: ports.decision.ports.map(\.name), user: user.decision)
        let hardware = Hardware(
            name: name, uuid: uuid, folders: folders, accelerator: accelerator.decision, memory: memory.decision,
            cpus: arguments.cpus, firmware: arguments.firmware,
            disks: disks.decision + [seed.decision].compactMap(\.self), secretSource: findings.secretFile,
            guestNICs: networks.decision, ports: ports.decision.ports, vnc: wishes.vnc)
        let words = QEMUArguments(hardware, arguments, facts, findings)
        let notes = [
            accelerator.notes, memory.notes, Plan.processorNotes(arguments, facts), findings.seed.warnings,
            Plan.vncNotes(wishes, findings), disks.notes, networks.notes, ports.notes, consoles.notes, user.notes,
        ].flatMap(\.self)
        let effects = [
            Plan.folderEffects(folders), disks.effects, passt?.effects ?? [], seed.effects, networks.effects,
            ports.effects, consoles.effects,
        ].flatMap(\.self)
        self.init(
            name: name, uuid: uuid, folders: folders, notes: notes, accelerator: hardware.accelerator,
            memory: hardware.memory, cpus: hardware.cpus, firmware: hardware.firmware, disks: hardware.disks,
            secretSource: hardware.secretSource, guestNICs: hardware.guestNICs, vnc: hardware.vnc,
            sshPort: passt?.decision, ports: hardware.ports, portRequests: arguments.ports,
            portsFile: findings.portsFile, layout: ports.decision.layout, effects: effects,
            services: ports.services + (passt?.services ?? []) + networks.services + consoles.services,
            qemu: Command(
                program: qemuProgram, arguments: words.words,
                environment: ["LC_ALL": "C.UTF-8", "TERM": "screen-256color", "HOME": "/nonexistent"],
                files: words.files, user: user.decision, cpus: ports.decision.layout?.machineCPUs ?? []),
            stopTimeout: arguments.stopTimeout)
    }

    private static func folderEffects(_ folders: MachinePaths) -> [Effect] {
        // QEMU's user must pass through to its pipes; what is inside has modes of its own.
        [
            .folder(path: folders.base, mode: 0o755, isShared: true),
            .folder(path: folders.run, mode: 0o711, isShared: false),
        ] + (folders.scratch.map { [.folder(path: $0, mode: 0o755, isShared: true)] } ?? []) + [
            .folder(path: folders.disks, mode: 0o700, isShared: folders.disksAreKept)
        ]
    }

    private static func processorNotes(_ arguments: Arguments, _ facts: HostFacts) -> [String] {
        if arguments.cpus <= facts.cpu.count { return [] }
        return ["\(arguments.cpus) virtual CPUs on a host with \(facts.cpu.count): they will wait for each other"]
    }

    private static func vncNotes(_ wishes: Wishes, _ findings: Findings) -> [String] {
        guard let address = wishes.vnc, !findings.hasVNCPassword else { return [] }
        if address.host.hasPrefix("127.") || address.host == "::1" { return [] }
        return ["VNC on \(address) has no password; give one with --vnc-password-file"]
    }

    package static func checkSocketPath(_ socket: String) throws(Failure) {
        guard socket.utf8.count > MachinePaths.longestSocketPath else { return }
        throw Failure(
            .usage, "use", socket, "a socket's path can't be longer than \(MachinePaths.longestSocketPath) bytes",
            remedy: "choose a shorter --name or --run-dir")
    }

    // MARK: - Consoles

    package static let pipes = ["serial", "qmp", "agent"]

    private static func consoles(
        _ arguments: Arguments, _ facts: HostFacts, _ findings: Findings, ports: [String], user: User?
    ) -> PlanPart<Void> {
        let folders = findings.folders
        let pipes = Plan.pipes.flatMap { name in
            ["in", "out"].map { Effect.pipe(path: "\(folders.pipe(name)).\($0)", owner: user) }
        }
        guard let tmux = facts.tools.tmux else {
            let note = "no tmux, so the machine's screen can only be seen by VNC (apt-get install tmux)"
            return PlanPart(decision: (), effects: pipes, notes: [note])
        }
        let settings = TmuxSettings(
            name: arguments.name, session: folders.tmuxSession, program: findings.programPath, base: folders.base,
            firmware: arguments.firmware, ports: ports)
        // Whoever is the same user may have it run what he likes.
        let owner = facts.privileges.qemuUser?.uid == 0 ? facts.privileges.qemuUser : nil
        return PlanPart(
            decision: (),
            effects: pipes + [.file(path: folders.tmuxSettings, mode: 0o600, FileContent(settings.text))],
            services: [.windows(tmux, folders, owner)])
    }

    // MARK: - QEMU's user

    /// As whom QEMU runs: without rights, unless what it needs is only for root. nil for the launcher's own user.
    private static func qemuUser(
        _ arguments: Arguments, _ facts: HostFacts, _ findings: Findings, _ wishes: Wishes,
        accelerator: AcceleratorChoice
    ) -> PlanPart<User?> {
        guard var user = facts.privileges.qemuUser else { return PlanPart(decision: nil) }
        let asRoot = PlanPart<User?>(
            decision: nil,
            notes: [
                "QEMU runs as root, since "
                    + (findings.privateFiles.first.map { "\($0) is not for others to read" }
                        ?? "a port, /dev/kvm or /dev/vfio is root's")
            ])
        if findings.ports.contains(where: { Engines.named($0.settings.engine ?? .snabb).needsRoot }) { return asRoot }
        // What is root's own is open to root without any right, too.
        if user.uid != 0 {
            if !findings.privateFiles.isEmpty { return asRoot }
            if accelerator == .kvm, !facts.kvm.forAnyone {
                guard let group = facts.kvm.group else { return asRoot }
                user.groups.append(group)
            }
        }
        if listeners(arguments, facts, findings, wishes).contains(where: { $0 < facts.privileges.firstUnprivilegedPort }
        ) {
            return asRoot
        }
        if user.uid != 0 || facts.privileges.capabilities == 0 { return PlanPart(decision: user) }
        let rights = HostFacts.Privileges.namesToRunOthers
        return PlanPart(
            decision: user, notes: ["QEMU runs as root, though without any right: with \(rights) it would be nobody"])
    }

    /// The TCP and UDP ports where QEMU itself listens.
    private static func listeners(
        _ arguments: Arguments, _ facts: HostFacts, _ findings: Findings, _ wishes: Wishes
    ) -> [Int] {
        let isQEMUs = wishes.mode == .user && !usesPasst(arguments, facts, findings)
        return (wishes.vnc.map { [$0.port] } ?? []) + (isQEMUs ? arguments.published.map(\.host) : [])
    }

    // MARK: - passt

    /// passt has no rights, so low ports are not for it.
    static func usesPasst(_ arguments: Arguments, _ facts: HostFacts, _ findings: Findings) -> Bool {
        let isLow = arguments.published.contains { $0.host < facts.privileges.firstUnprivilegedPort }
        return arguments.userNet == .passt && findings.hasPasst && !isLow
    }

    /// nil where nothing is passt's; the decision is the port that leads to the guest's SSH server, where none was asked
    /// for.
    private static func passt(
        _ networks: [GuestNICPlan], _ facts: HostFacts, _ findings: Findings, _ user: User?
    ) -> PlanPart<Int?>? {
        guard let program = facts.tools.passt, let nic = networks.first(where: \.usesPasst) else { return nil }
        let folders = findings.folders
        // passt does not stay root, so its folder must not be root's.
        let user = user ?? facts.privileges.qemuUser
        var options = ["--mtu", "1500"]
        if let given = nic.addresses.first, let gateway = given.gateway {
            options += ["--address", "\(given.address.address)", "--netmask", "\(given.address.netmask)"]
            options += ["--gateway", "\(gateway)"]
        }
        for port in nic.published {
            options += [port.udp ? "-u" : "-t", (port.address.map { "\($0)/" } ?? "") + "\(port.host):\(port.guest)"]
        }
        let leadsToSSH = nic.published.contains { $0.guest == 22 && !$0.udp }
        let sshPort = leadsToSSH ? nil : findings.freeListener
        if let sshPort { options += ["-t", "127.0.0.1/\(sshPort):22"] }
        return PlanPart(
            decision: sshPort,
            effects: [
                .folder(path: folders.passtFolder, mode: 0o700, isShared: false, owner: user),
                // passt leaves its socket behind.
                .place(path: folders.passt),
            ], services: [.passt(program, options, socket: folders.passt, user)])
    }
}
