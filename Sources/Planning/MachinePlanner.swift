import Model
import Values

/// Puts the plan together once, from what small planners return, each a decision with what follows from it. Whatever
/// can be refused is refused here.
package struct MachinePlanner {
    private let arguments: Arguments
    private let facts: HostFacts
    private let wishes: Wishes
    private let findings: Findings
    private var folders: MachinePaths { findings.folders }

    package static func plan(
        _ arguments: Arguments, _ facts: HostFacts, _ wishes: Wishes, _ findings: Findings
    ) throws(Failure) -> Plan {
        try MachinePlanner(arguments: arguments, facts: facts, wishes: wishes, findings: findings).plan()
    }

    /// What of the host's own a start with these options would be refused for.
    package static func refusals(_ arguments: Arguments, _ facts: HostFacts) -> [Failure] {
        var refusals: [Failure] = []
        do throws(Failure) { _ = try AcceleratorPlanner.plan(arguments, facts) } catch { refusals.append(error) }
        do throws(Failure) { _ = try MemoryPlanner.plan(arguments, facts) } catch { refusals.append(error) }
        if arguments.firmware == .uefi, facts.tools.firmwareVariables == nil { refusals.append(DiskPlanner.noFirmware) }
        return refusals
    }

    private func plan() throws(Failure) -> Plan {
        guard let qemuProgram = facts.tools.qemu else {
            throw Failure.missing("QEMU (\(arguments.qemu))", package: "qemu-system-x86")
        }
        guard let qemuImg = facts.tools.qemuImg else { throw Failure.missing("qemu-img", package: "qemu-utils") }
        try MachinePaths.checkSocketPath(folders.control)
        let uuid = MachineIdentity.uuid(of: arguments.name, findings.record, hostKey: findings.hostKey)
        let accelerator = try AcceleratorPlanner.plan(arguments, facts)
        let node = LayoutPlanner.node(of: findings.ports, facts)
        let memory = try MemoryPlanner.plan(arguments, facts, near: node)
        if let taken = findings.takenListeners.first {
            throw Failure(
                .network, "listen on", "\(taken.address)", taken.why, remedy: "choose another with --vnc or --publish")
        }
        let user = qemuUser(accelerator.decision)
        let own = try DiskPlanner(
            arguments: arguments, facts: facts, findings: findings, qemuImg: qemuImg, uuid: uuid, user: user.decision
        ).plan()
        let nics = try NetworkPlanner.plan(arguments, facts, findings, wishes, uuid: uuid, user: user.decision)
        let passt = passt(nics.decision, user.decision)
        let seed = try SeedPlanner.plan(arguments, facts, findings, nics.decision, uuid: uuid)
        let ports = try PortPlanner.plan(
            arguments, facts, findings, uuid: uuid, after: nics.decision.count, memory: memory.decision,
            user: user.decision)
        let consoles = consoles(ports: ports.decision.ports.map(\.name), user: user.decision)
        let disks = own.decision + [seed.decision].compactMap(\.self)
        let words = QEMUArguments(
            arguments, facts, wishes, findings, uuid: uuid, accelerator: accelerator.decision,
            memory: memory.decision, disks: disks, guestNICs: nics.decision, ports: ports.decision.ports)
        let notes = [
            accelerator.notes, memory.notes, processorNotes, findings.seed.warnings, vncNotes, own.notes, nics.notes,
            ports.notes, consoles.notes, user.notes,
        ].flatMap(\.self)
        let effects = [
            folderEffects, own.effects, passt?.effects ?? [], seed.effects, nics.effects, ports.effects,
            consoles.effects,
        ].flatMap(\.self)
        return Plan(
            name: arguments.name, uuid: uuid, folders: folders, notes: notes, accelerator: accelerator.decision,
            memory: memory.decision, cpus: arguments.cpus, firmware: arguments.firmware, disks: disks,
            secretSource: findings.secretFile, guestNICs: nics.decision, vnc: wishes.vnc,
            sshPort: passt?.decision, ports: ports.decision.ports, portRequests: arguments.ports,
            portsFile: findings.portsFile, layout: ports.decision.layout, effects: effects,
            services: ports.services + (passt?.services ?? []) + nics.services + consoles.services,
            qemu: Command(
                program: qemuProgram, arguments: words.words,
                environment: ["LC_ALL": "C.UTF-8", "TERM": "screen-256color", "HOME": "/nonexistent"],
                files: words.files, user: user.decision, cpus: ports.decision.layout?.machineCPUs ?? []),
            stopTimeout: arguments.stopTimeout)
    }

    private var folderEffects: [Effect] {
        // QEMU's user must pass through to its pipes; what is inside has modes of its own.
        [
            .folder(path: folders.base, mode: 0o755, isShared: true),
            .folder(path: folders.run, mode: 0o711, isShared: false),
        ] + (folders.scratch.map { [.folder(path: $0, mode: 0o755, isShared: true)] } ?? []) + [
            .folder(path: folders.disks, mode: 0o700, isShared: folders.disksAreKept)
        ] + (folders.disksAreKept ? [] : [.file(path: folders.scratchNote, mode: 0o600, FileContent(scratchWords))])
    }

    private var scratchWords: String {
        "What is here is of machine \(arguments.name), and is removed when that ends, or when one of its name starts.\n"
    }

    private var processorNotes: [String] {
        if arguments.cpus <= facts.cpu.count { return [] }
        return ["\(arguments.cpus) virtual CPUs on a host with \(facts.cpu.count): they will wait for each other"]
    }

    private var vncNotes: [String] {
        guard let address = wishes.vnc, !findings.hasVNCPassword else { return [] }
        if address.host.hasPrefix("127.") || address.host == "::1" { return [] }
        return ["VNC on \(address) has no password; give one with --vnc-password-file"]
    }

    private func consoles(ports: [String], user: User?) -> PlanPart<Void> {
        let pipes = Plan.pipes.flatMap { name in
            ["in", "out"].map { Effect.pipe(path: "\(folders.pipe(name)).\($0)", owner: user) }
        }
        guard let tmux = facts.tools.tmux else {
            let note = "no tmux, so the machine's screen can only be seen by VNC (apt-get install tmux)"
            return PlanPart(decision: (), effects: pipes, notes: [note])
        }
        let settings = FileContent(TmuxSettings(arguments, findings, ports: ports).text)
        // Whoever is tmux's user may have it run what he likes.
        let owner = facts.privileges.qemuUser?.uid == 0 ? facts.privileges.qemuUser : nil
        return PlanPart(
            decision: (), effects: pipes + [.file(path: folders.tmuxSettings, mode: 0o600, settings)],
            services: [.windows(tmux, folders, owner)])
    }

    /// As whom QEMU runs: without rights, unless what it needs is only for root. nil for the launcher's own user.
    private func qemuUser(_ accelerator: AcceleratorChoice) -> PlanPart<User?> {
        guard var user = facts.privileges.qemuUser else { return PlanPart(decision: nil) }
        let privateFile = findings.privateFiles.first.map { "\($0) is not for others to read" }
        let why = privateFile ?? "a port, /dev/kvm or /dev/vfio is root's"
        let asRoot = PlanPart<User?>(decision: nil, notes: ["QEMU runs as root, since \(why)"])
        if findings.ports.contains(where: { $0.settings.usedEngine.needsRoot }) { return asRoot }
        // What is root's own is open to root without any right, too.
        if user.uid != 0 {
            if !findings.privateFiles.isEmpty { return asRoot }
            if accelerator == .kvm, !facts.kvm.forAnyone {
                guard let group = facts.kvm.group else { return asRoot }
                user.groups.append(group)
            }
        }
        // Where passt has the ports, none of them is a low one.
        let first = facts.privileges.firstUnprivilegedPort
        if wishes.listeners.contains(where: { $0.address.port < first }) { return asRoot }
        if user.uid != 0 || facts.privileges.capabilities == 0 { return PlanPart(decision: user) }
        let rights = HostFacts.Privileges.namesToRunOthers
        return PlanPart(
            decision: user, notes: ["QEMU runs as root, though without any right: with \(rights) it would be nobody"])
    }

    /// nil where passt has nothing to do; the decision is the port that leads to the guest's SSH server, where none was
    /// asked for.
    private func passt(_ nics: [GuestNICPlan], _ user: User?) -> PlanPart<Int?>? {
        guard let program = facts.tools.passt, let nic = nics.first(where: \.usesPasst) else { return nil }
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
                .file(path: folders.passt),
            ], services: [.passt(program, options, socket: folders.passt, user)])
    }
}
