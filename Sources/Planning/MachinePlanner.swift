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
        let rights = try rights(accelerator.decision, memory.decision.size)
        let user = rights.decision.user
        let own = try DiskPlanner(
            arguments: arguments, facts: facts, findings: findings, qemuImg: qemuImg, uuid: uuid, user: user
        ).plan()
        let nics = try NetworkPlanner.plan(arguments, facts, findings, wishes, uuid: uuid, user: user)
        let passt = passt(nics.decision, user)
        let seed = try SeedPlanner.plan(arguments, facts, findings, nics.decision, uuid: uuid)
        let ports = try PortPlanner.plan(
            arguments, facts, findings, uuid: uuid, after: nics.decision.count, memory: memory.decision,
            user: user)
        let consoles = consoles(ports: ports.decision.ports.map(\.name))
        let disks = own.decision + [seed.decision].compactMap(\.self)
        let words = QEMUArguments(
            arguments, facts, wishes, findings, uuid: uuid, accelerator: accelerator.decision,
            memory: memory.decision, disks: disks, guestNICs: nics.decision, ports: ports.decision.ports)
        let notes = [
            accelerator.notes, memory.notes, processorNotes, findings.seed.warnings, vncNotes, own.notes, nics.notes,
            ports.notes, consoles.notes, rights.notes,
        ].flatMap(\.self)
        let effects = [
            folderEffects, own.effects, passt?.effects ?? [], seed.effects, nics.effects, ports.effects,
            consoles.effects,
        ].flatMap(\.self)
        var qemu = Command(
            program: qemuProgram, arguments: words.words,
            environment: ["LC_ALL": "C.UTF-8", "TERM": "screen-256color", "HOME": "/nonexistent"], files: words.files,
            user: user, cpus: ports.decision.layout?.machineCPUs ?? [])
        qemu.sockets = Plan.sockets.map { "\(folders.sockets)/\($0)" }
        (qemu.devices, qemu.lockedMemory) = (rights.decision.devices, rights.decision.lockedMemory)
        qemu.mayBindLowPorts = rights.decision.mayBindLowPorts
        return Plan(
            name: arguments.name, uuid: uuid, folders: folders, notes: notes, accelerator: accelerator.decision,
            memory: memory.decision, cpus: arguments.cpus, firmware: arguments.firmware, disks: disks,
            secretSource: findings.secretFile, guestNICs: nics.decision, vnc: wishes.vnc,
            sshPort: passt?.decision, ports: ports.decision.ports, portRequests: arguments.ports,
            portsFile: findings.portsFile, layout: ports.decision.layout, effects: effects,
            services: ports.services + (passt?.services ?? []) + nics.services + consoles.services,
            qemu: qemu, stopTimeout: arguments.stopTimeout)
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

    private func consoles(ports: [String]) -> PlanPart<Void> {
        guard let tmux = facts.tools.tmux else {
            let note = "no tmux, so the machine's screen can only be seen by VNC (apt-get install tmux)"
            return PlanPart(decision: (), notes: [note])
        }
        let settings = FileContent(TmuxSettings(arguments, findings, ports: ports).text)
        // Whoever is tmux's user may have it run what he likes.
        let owner = facts.privileges.qemuUser?.uid == 0 ? facts.privileges.qemuUser : nil
        return PlanPart(
            decision: (), effects: [.file(path: folders.tmuxSettings, mode: 0o600, settings)],
            services: [.windows(tmux, folders, owner)])
    }

    /// As whom QEMU runs, and what it has beside its open files.
    private struct Rights {
        var user: User?
        var mayBindLowPorts = false
        var devices: [String] = []
        var lockedMemory: UInt64 = 0
    }

    /// Whatever it needs, it has no right beyond those of an ordinary user: but for one, which is no use to root.
    private func rights(_ accelerator: AcceleratorChoice, _ memory: ByteCount) throws(Failure) -> PlanPart<Rights> {
        guard let user = facts.privileges.qemuUser else { return PlanPart(decision: Rights()) }
        var rights = Rights(user: user)
        var notes = findings.privateFiles.map { "\($0) is not for others to read: QEMU has a copy of it in memory" }
        if user.uid != 0, accelerator == .kvm, !facts.kvm.forAnyone {
            if let group = facts.kvm.group {
                rights.user?.groups.append(group)
            } else {
                rights.devices.append("/dev/kvm")
            }
        }
        let guestsOwn = findings.ports.filter { $0.settings.usedEngine.isTheGuests }
        if !guestsOwn.isEmpty {
            // All of the guest's memory, and what QEMU has beside.
            rights.lockedMemory = memory.bytes + ByteCount.mebibytes(1024).bytes
            if rights.lockedMemory > facts.privileges.lockableMemory ?? .max {
                try needs([.sysResource], to: "keep the machine's memory in place")
            }
            let sources = guestsOwn.map(\.source)
            let nics = (facts.nics ?? []).filter { sources.contains(.pci($0.address)) }
            let groups = Set(nics.compactMap(\.iommuGroup)).sorted()
            if user.uid != 0 { rights.devices += ["/dev/vfio/vfio"] + groups.map { "/dev/vfio/\($0)" } }
        }
        if let device = rights.devices.first { try needs([.mknod, .sysAdmin], to: "let QEMU open \(device)") }
        // Where passt has the ports, none of them is a low one.
        let first = facts.privileges.firstUnprivilegedPort
        if let low = wishes.listeners.first(where: { $0.address.port < first })?.address {
            if user.uid == 0 {
                throw Failure(
                    .host, "listen on", "\(low)", "QEMU is root here without any right, and that takes one",
                    remedy: "choose a port from \(first) on, or another --qemu-user")
            }
            try needs([.netBindService], to: "let QEMU listen on \(low)")
            rights.mayBindLowPorts = true
        }
        if user.uid == 0, !facts.privileges.canRunOthers, facts.privileges.capabilities != 0 {
            let names = HostFacts.Privileges.namesToRunOthers
            notes.append("QEMU runs as root, though without any right: with \(names) it would be nobody")
        }
        return PlanPart(decision: rights, notes: notes)
    }

    private func needs(_ capabilities: [HostFacts.Privileges.Capability], to purpose: String) throws(Failure) {
        let missing = capabilities.filter { !facts.privileges.has($0) }.map(\.name)
        if missing.isEmpty { return }
        throw Failure(
            .host, "start", "machine \(arguments.name)",
            "to \(purpose) takes the right \(missing.joined(separator: " and "))",
            remedy: facts.privileges.inContainer ? "docker run with --cap-add for each" : "run it as root")
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
