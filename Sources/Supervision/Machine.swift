import CLinux
import Glibc
import Host
import Images
import Model
import Planning
import System
import Values

/// A running machine: QEMU, the streams to look at it, and the one loop that supervises them.
package final class Machine {
    private let plan: Plan
    private let loop: EventLoop
    private let ledger: Ledger
    private let log: Log
    private let vncPassword: String?
    private let started = ContinuousClock.now

    private let screen: ConsoleStream
    private let serial: ConsoleStream
    private let logStream = ConsoleStream(StreamName.log.rawValue)
    /// Those of `Plan.sockets`, in its order, and QEMU's ends of them until it has them.
    private let channels: [Channel]
    private var qemuEnds: [HeldDescriptor]
    private let qmp: QMP
    private let agent: GuestAgent
    private let pseudoTerminal: PseudoTerminal
    private let control: ControlServer
    private let ports: Ports
    /// Brings what the machine reads, while it runs.
    private let fetch: ImageFetch?
    private let services: [Service]
    private let session: TerminalSession?
    private var serialToOutput: Outlet?

    /// The images that the machine reads, and the first of them that somebody wrote to meanwhile.
    private var imageWatch: WriteWatch?
    private var spoiled: Failure?

    /// QEMU's process, how it ended, and its last words.
    private var qemu: pid_t?
    private var qemuStatus: ExitStatus?
    private var qemuWords: [String] = []
    private var phase = MachinePhase.running
    private var waitingForEnd: [ControlConnection] = []
    /// The port of this host that leads to the guest's SSH server.
    private var sshForward: Int?

    package init(
        _ plan: Plan, loop: EventLoop, ledger: Ledger, log: Log, vncPassword: String?, fetch: ImageFetch?,
        hasTerminal: Bool
    ) throws {
        self.plan = plan
        self.fetch = fetch
        self.loop = loop
        self.ledger = ledger
        self.log = log
        self.vncPassword = vncPassword
        (channels, qemuEnds) = try Machine.channels(loop)
        serial = ConsoleStream(StreamName.serial.rawValue, input: channels[0])
        qmp = QMP(channels[1])
        agent = GuestAgent(channels[2], loop: loop)
        pseudoTerminal = try PseudoTerminal(loop: loop)
        screen = ConsoleStream(StreamName.screen.rawValue, input: pseudoTerminal.channel)
        try ledger.record([plan.folders.control, plan.folders.log, plan.folders.knownHosts].map { .file(path: $0) })
        control = try ControlServer(plan.folders.control, loop: loop)
        services = plan.services.map { servicePlan in
            var servicePlan = servicePlan
            // Without a terminal to show them on, windows are opened by who wants to look, and who can ask again.
            if servicePlan.role == .windows, !hasTerminal { servicePlan.restarts.pauses = [] }
            return Service(servicePlan, loop: loop, ledger: ledger, log: log)
        }
        ports = Ports(plan, services, loop: loop, ledger: ledger, log: log)
        session = services.first { $0.plan.role == .windows }.map {
            TerminalSession($0, plan.folders, loop: loop, log: log, hasTerminal: hasTerminal)
        }
        connect()
    }

    private static func channels(_ loop: EventLoop) throws -> ([Channel], [HeldDescriptor]) {
        var (channels, ends): ([Channel], [HeldDescriptor]) = ([], [])
        for name in Plan.sockets {
            let pair = try Failure.naming(.host, "make", "the \(name) socket", try Descriptor.socketPair())
            ends.append(HeldDescriptor(Descriptor(pair.theirs)))
            channels.append(try Channel(Descriptor(pair.ours), loop: loop))
        }
        return (channels, ends)
    }

    private func connect() {
        channels[0].onBytes = { [unowned self] in serial.received($0) }
        pseudoTerminal.channel.onBytes = { [unowned self] in screen.received($0) }
        control.onRequest = { [unowned self] in answer($0, $1) }
        qmp.onReady = { [unowned self] in qemuIsUp() }
        qmp.onEvent = { [unowned self] in event($0, $1) }
        loop.onSignal = { [unowned self] signal in
            log.note("\(String(cString: strsignal(signal))): stopping")
            // A terminal that is closed says so twice, by its shell and by the kernel.
            stop(now: signal == SIGQUIT, insists: signal != SIGHUP)
        }
        for service in services { service.onFailure = { [unowned self] in end(.failed($0)) } }
        session?.onNoTerminal = { [unowned self] in showSerialOnOutput() }
        fetch?.onWrong = { [unowned self] in pause(for: $0) }
        let flags = O_WRONLY | O_CREAT | O_TRUNC | O_APPEND
        let logFile = try? HeldDescriptor(Descriptor.open(plan.folders.log, flags))
        logStream.receivedLine("The launcher's log; with every step it is in \(plan.folders.log)")
        log.listener = { [unowned self] line, isShown in
            if isShown { logStream.receivedLine(line) }
            try? logFile?.writeAll(Array("\(line)\n".utf8))
        }
    }

    // MARK: - Its life

    /// From QEMU's start to its end.
    package func run() throws -> Ending {
        // Beside each other: QEMU waits for the switches to connect, and they for its sockets.
        let first = services.filter { $0.plan.role != .windows }
        for service in first { try service.start() }
        ports.start()
        // QEMU gives up where it is the client of a service that does not listen yet.
        try loop.run { first.allSatisfy { $0.isSettled() } }
        if case .quitting(let ending) = phase { return ending }
        try startQEMU()
        watchImages()
        if let session, session.hasTerminal { session.open { _ in } } else { showSerialOnOutput() }
        try loop.run { qemuStatus != nil }
        // QEMU's last words, which come with the same wake-up or not at all.
        try loop.drain()
        for channel in channels { channel.read() }
        let ending = phase.ending ?? endingOfQEMU
        if let spoiled, [.poweredOff, .stopped].contains(ending) { return .failed(spoiled) }
        return ending
    }

    /// What a guest has read of its image and what it reads next belong together only as long as nobody writes to it.
    private func watchImages() {
        let bases = plan.disks.compactMap(\.base).filter { $0.served == nil }
        let discs = plan.disks.filter { $0.role == .cdrom && $0.served == nil }.map(\.path)
        imageWatch = WriteWatch(bases.map(\.path) + discs, loop: loop) { [unowned self] in spoil($0) }
        // Since it was looked at for the plan.
        for base in bases where !base.isBlockDevice {
            guard let now = try? Files.status(base.path) else { continue }
            if UInt64(now.st_size) != base.fileSize || Files.modified(now) != base.modified { spoil(base.path) }
        }
    }

    private func spoil(_ image: String) {
        let failure = Failure(
            .image, "trust the disk of", "machine \(plan.name)", "\(image) was written to while the machine runs on it",
            remedy: "look over what the guest has written, and put the image back as it was before the next start")
        log.warning(failure.line)
        spoiled = spoiled ?? failure
    }

    private func startQEMU() throws {
        let terminal = try pseudoTerminal.openOtherEnd()
        let (reading, writing) = try Descriptor.pipe()
        let errors = Descriptor(writing)
        let reader = WordReader(reading, loop: loop) { [unowned self] line in
            if Machine.aboutSwitches.contains(where: line.contains) { return log.verbose("qemu: \(line)") }
            qemuWords = qemuWords.suffix(9) + [line]
            log.note("qemu: \(line)")
        }
        log.verbose(plan.qemu.shellText)
        let pid = try plan.qemu.start(
            in: loop, input: terminal.raw, output: terminal.raw, error: errors.raw, passed: qemuEnds.map(\.raw),
            terminal: .own, kind: .qemu
        ) { [unowned self] in
            try reader.finish()
            qemuStatus = $0
            for service in services { service.machineIsGone() }
        }
        qemu = pid
        qemuEnds = []
        if let identity = ProcessIdentity(pid: pid) { try ledger.record([.process(name: "qemu", identity)]) }
    }

    /// What QEMU says when it waits for a switch, and when one dies, which the launcher tells better.
    private static let aboutSwitches = [
        ": info: QEMU waiting for connection", "Failed to set msg fds", " ring restore failed",
    ]

    private func signalQEMU(_ number: Int32) {
        if let qemu, qemuStatus == nil { kill(qemu, number) }
    }

    private func qemuIsUp() {
        log.verbose("QEMU is up (pid \(qemu ?? 0))")
        ports.machineIsUp()
        for service in services { service.machineIsUp() }
        if let vncPassword {
            qmp.execute("set_password", ["protocol": "vnc", "password": .string(vncPassword)]) { [unowned self] in
                if let problem = $1 { log.warning("VNC takes no password: \(problem)") }
            }
        }
        pressPowerButton()
        if case .paused = phase { qmp.execute("stop") }
        loop.after(Machine.settlingTime) { ResidentMemory.release() }
    }

    /// It must not go on with a disk that is not the one that was asked for; what it is, its owner can still look at.
    private func pause(for failure: Failure) {
        log.warning("\(failure.line); the machine is paused: end it with snabbvm stop")
        phase.pause(for: failure)
        if qmp.isReady { qmp.execute("stop") }
    }

    private static let settlingTime = Duration.milliseconds(500)

    private func event(_ name: String, _ data: JSON) {
        switch name {
        case "SHUTDOWN": phase.shutDown(data["reason"]?.string ?? "unknown")
        case "VSERPORT_CHANGE": agent.isConnected = data["open"]?.bool ?? false
        case "RESET" where data["guest"]?.bool == true: log.note("the guest restarts")
        case "BLOCK_IO_ERROR":
            log.warning("a disk failed under the guest: \(data["reason"]?.string ?? data.text)")
        default: break
        }
    }

    private func showSerialOnOutput() {
        guard serialToOutput == nil else { return }
        let outlet = Outlet(STDOUT_FILENO, loop: loop) {}
        serialToOutput = outlet
        serial.add(outlet)
    }

    // MARK: - Its end

    func stop(now: Bool, insists: Bool) {
        switch phase.stop(now: now, insists: insists) {
        case .nothing: return
        case .quit: return quit()
        case .wait: pressPowerButton()
        }
        let margin = min(2, plan.stopTimeout / 10)
        loop.after(.seconds(plan.stopTimeout - margin)) { [unowned self] in
            if qemuStatus != nil { return }
            log.warning("the guest did not power off within \(Int(plan.stopTimeout)) s")
            end(.cutOff)
        }
    }

    private static let pressAgain = Duration.seconds(5)

    /// Again now and then: a guest that is still booting does not hear it.
    private func pressPowerButton() {
        guard phase == .stopping, qmp.isReady, qemuStatus == nil else { return }
        qmp.execute("system_powerdown")
        loop.after(Machine.pressAgain) { [unowned self] in pressPowerButton() }
    }

    private func end(_ ending: Ending) {
        phase.end(ending)
        quit()
    }

    private func quit() {
        if qemu == nil { return }
        if qmp.isReady { qmp.execute("quit") } else { signalQEMU(SIGTERM) }
        loop.after(.seconds(2)) { [weak self] in self?.signalQEMU(SIGKILL) }
    }

    private var endingOfQEMU: Ending {
        if case .leaving(let reason) = phase, qemuStatus == .code(0) {
            if ["guest-shutdown", "guest-reset"].contains(reason) { return .poweredOff }
            return .failed(
                Failure(.qemu, "go on with", "machine \(plan.name)", "QEMU was ended from outside (\(reason))"))
        }
        let words = qemuWords.suffix(3).joined(separator: " / ")
        let said = words.isEmpty ? "QEMU ended with \(qemuStatus.map { "\($0)" } ?? "nothing")" : words
        let isDenied = words.contains("Permission denied") && plan.qemu.user != nil
        let failure = Failure(
            .qemu, qmp.isReady ? "go on with" : "start", "machine \(plan.name)", said,
            remedy: isDenied ? "QEMU runs as an ordinary user here; --qemu-user root lets it open root's files" : nil)
        return .failed(words.contains(Failure.wrongPassphrase) ? failure.forPassphrase : failure)
    }

    package var uptime: Double { (ContinuousClock.now - started) / .seconds(1) }

    /// Ends what is left of the children, so that nothing of them is in the way when the ledger is unwound.
    package func close() throws {
        signalQEMU(SIGKILL)
        try loop.run { qemu == nil || qemuStatus != nil }
        ports.end()
        for service in services { service.end() }
        try loop.run { services.allSatisfy(\.isGone) }
        fetch?.end()
        try session?.end()
        serialToOutput?.flush()
        log.listener = nil
    }

    /// The last thing: tells those who asked for the end how it was.
    package func tellEnd(_ line: String, code: Int32) {
        for connection in waitingForEnd { connection.answer(ControlAnswer.End(ended: line, code: code)) }
        control.close()
        for channel in channels { channel.close() }
    }

    // MARK: - What others ask

    private func answer(_ request: ControlRequest, _ connection: ControlConnection) {
        let refuse = { (why: String?) in connection.answer(ControlAnswer.Outcome(error: why)) }
        switch request {
        case .status: answerStatus(connection)
        case .ports: connection.answer(ports.status)
        case .streams: connection.answer(ControlAnswer.Streams(streams: streams.map(\.name)))
        case .ssh: answerSSH(connection)
        case .console:
            guard let session else { return refuse("there is no tmux") }
            session.open(refuse)
        case .stop(let now):
            log.note("asked to stop")
            waitingForEnd.append(connection)
            stop(now: now, insists: false)
        case .attach(let name):
            guard let stream = streams.first(where: { $0.name == name }) else { return refuse("no such stream") }
            connection.attach(to: stream)
        case .resize(let rows, let columns):
            pseudoTerminal.resize(rows: rows, columns: columns)
            refuse(nil)
        }
    }

    private var streams: [ConsoleStream] { [screen, serial, logStream] + ports.streams }

    /// Where the guest's SSH server is to be found from here.
    private func answerSSH(_ connection: ControlConnection) {
        guard let nic = plan.guestNICs.first else {
            return connection.answer(ControlAnswer.SSH(error: "it has no network (--net none)"))
        }
        let reply = { [unowned self] (host: String, port: Int) in
            connection.answer(ControlAnswer.SSH(host: host, port: port, knownHosts: plan.folders.knownHosts))
        }
        if nic.mode == .user { return findForward(connection, reply) }
        if let address = nic.reachedAt { return reply("\(address)", 22) }
        agent.interfaces { [unowned self] interfaces in
            let status = GuestNICStatus(nic, leases: Leases.of(plan.folders), guest: interfaces)
            let own = Set(HostFacts.Interface.systemAddresses().values.joined())
            let addresses = status.reachable(nic, besides: own)
            guard let address = addresses.first(where: { !$0.isSix }) ?? addresses.first else {
                let said = status.addresses.map(\.description).joined(separator: ", ")
                let why =
                    said.isEmpty
                    ? "its address is not known: it has no guest agent that would tell"
                    : "its guest says that it is \(said), which is none of its network"
                return connection.answer(ControlAnswer.SSH(waiting: why))
            }
            reply("\(address)", 22)
        }
    }

    /// Through QEMU's user network a port of this host leads to the guest's: one that was asked for, or one more.
    private func findForward(_ connection: ControlConnection, _ reply: @escaping (String, Int) -> Void) {
        if let port = plan.guestNICs.first?.published.first(where: { $0.guest == 22 && !$0.udp }) {
            let host = port.address ?? "0.0.0.0"
            return reply(["0.0.0.0", "::"].contains(host) ? "127.0.0.1" : host, port.host)
        }
        if let port = sshForward ?? plan.sshPort { return reply("127.0.0.1", port) }
        guard qmp.isReady, let port = SocketAddress.freePort() else {
            return connection.answer(ControlAnswer.SSH(waiting: "it is starting"))
        }
        let line = "hostfwd_add eth0 tcp:127.0.0.1:\(port)-:22"
        qmp.execute("human-monitor-command", ["command-line": .string(line)]) { [unowned self] in
            // It says nothing when all is well.
            if $1 == nil, $0.string?.trimmed.isEmpty == true {
                sshForward = port
                return reply("127.0.0.1", port)
            }
            connection.answer(ControlAnswer.SSH(error: "QEMU leads no port to it"))
        }
    }

    private func answerStatus(_ connection: ControlConnection) {
        let reply = { [unowned self] (state: String) in
            agent.interfaces { [unowned self] in connection.answer(status(state, guest: $0)) }
        }
        guard qmp.isReady else { return reply("starting") }
        qmp.execute("query-status") { [unowned self] result, _ in
            let state = result["status"]?.string ?? "unknown"
            reply(phase.isStopping && state == "running" ? "stopping" : state)
        }
    }

    private func status(_ state: String, guest: [GuestInterface]?) -> MachineStatus {
        let leases = Leases.of(plan.folders)
        return MachineStatus(
            name: plan.name, state: state, pid: qemu ?? 0, uuid: plan.uuid, uptime: (uptime * 10).rounded() / 10,
            accelerator: plan.accelerator, cpus: plan.cpus, memory: plan.memory, firmware: plan.firmware,
            disks: plan.disks, nics: plan.guestNICs.map { GuestNICStatus($0, leases: leases, guest: guest) },
            published: plan.guestNICs.flatMap(\.published), ports: ports.status, image: fetch?.progress,
            layout: plan.layout, vnc: plan.vnc, log: plan.folders.log, spoiled: spoiled?.cause)
    }
}
