import CLinux
import Glibc

/// How a machine ended.
enum Ending: Equatable {
    case poweredOff
    case stopped
    /// The guest did not power off in the time it had.
    case cutOff
    case failed(Failure)
}

/// A running machine: QEMU, the streams to look at it, and the one loop that supervises them.
final class Machine {
    private let plan: Plan
    private let loop: EventLoop
    private let ledger: Ledger
    private let log: Log
    private let vncPassword: String?
    private let started = ContinuousClock.now

    private let screen = ConsoleStream(.screen)
    private let serial = ConsoleStream(.serial)
    private let logStream = ConsoleStream(.log)
    private let qmp: QMP
    private let qmpChannel: PipeChannel
    private let serialChannel: PipeChannel
    private let agentChannel: PipeChannel
    private let agent: GuestAgent
    private let pseudoTerminal: PseudoTerminal
    private let control: ControlServer
    private let ports: Ports
    /// Brings what the machine reads, while it runs.
    private let fetch: ImageFetch?
    private let addresses: AddressService?
    private let addressGuard: AddressGuard?
    private let passt: Passt?
    private var session: TerminalSession?
    private var serialToOutput: Outlet?

    private var qemu: pid_t = 0
    private var qemuStatus: ExitStatus?
    private var qemuWords: [String] = []
    private var shutdownReason: String?
    private var stopRequests = 0
    private var wasCutOff = false
    private var isPluggedOut = false
    private var wantsPowerDown = false
    private var failure: Failure?
    private var wrongImage: Failure?
    private var waitingForEnd: [ControlConnection] = []
    /// The port of this host that leads to the guest's SSH server.
    private var sshForward: Int?

    init(
        _ plan: Plan, loop: EventLoop, ledger: Ledger, log: Log, vncPassword: String?, fetch: ImageFetch?,
        addressGuard: AddressGuard?
    ) throws {
        self.plan = plan
        self.fetch = fetch
        self.loop = loop
        self.ledger = ledger
        self.log = log
        self.vncPassword = vncPassword
        let pipes = try Plan.pipes.map { try PipeChannel(plan.folders.pipe($0), loop: loop) }
        (serialChannel, qmpChannel, agentChannel) = (pipes[0], pipes[1], pipes[2])
        qmp = QMP(qmpChannel)
        agent = GuestAgent(agentChannel, loop: loop)
        pseudoTerminal = try PseudoTerminal(loop: loop)
        try ledger.record([plan.folders.control, plan.folders.log, plan.folders.knownHosts].map { .file(path: $0) })
        control = try ControlServer(plan.folders.control, loop: loop)
        ports = Ports(plan, loop: loop, ledger: ledger, log: log)
        addresses = plan.dnsmasq.map { AddressService($0, loop: loop, ledger: ledger, log: log) }
        self.addressGuard = addressGuard
        passt = plan.passt.map { Passt($0, socket: plan.folders.passt, loop: loop) }
        connect()
    }

    private func connect() {
        serialChannel.onBytes = { [unowned self] in serial.received($0) }
        serial.onInput = { [unowned self] in serialChannel.send($0) }
        pseudoTerminal.onBytes = { [unowned self] in screen.received($0) }
        screen.onInput = { [unowned self] in pseudoTerminal.send($0) }
        control.onRequest = { [unowned self] in answer($0, $1, $2) }
        qmp.onReady = { [unowned self] in qemuIsUp() }
        qmp.onEvent = { [unowned self] in event($0, $1) }
        loop.onSignal = { [unowned self] signal in
            log.note("\(String(cString: strsignal(signal))): stopping")
            // A terminal that is closed says so twice, by its shell and by the kernel.
            stop(now: signal == SIGQUIT, insists: signal != SIGHUP)
        }
        ports.onFailure = { [unowned self] in fail($0) }
        addresses?.onFailure = { [unowned self] in fail($0) }
        passt?.onLine = { [unowned self] in log.verbose($0) }
        passt?.onEnd = { [unowned self] words in
            if qemu != 0, qemuStatus == nil {
                log.warning("passt ended (\(words)): the machine has no network any more")
            }
        }
        addressGuard?.onTwin = { [unowned self] mac in
            log.warning("another host has the machine's MAC address \(mac): give one of them another (--mac)")
        }
        addressGuard?.onConflict = { [unowned self] address, mac in
            log.warning("another host, with MAC address \(mac), uses \(address), which is the machine's")
        }
        fetch?.onWrong = { [unowned self] in pause(for: $0) }
        let logFile = LogFile(plan.folders.log)
        logStream.received(Array("The launcher's log; with every step it is in \(plan.folders.log)\r\n".utf8))
        log.listener = { [unowned self] line, isShown in
            if isShown { logStream.received(Array("\(line)\r\n".utf8)) }
            logFile?.write(line)
        }
    }

    // MARK: - Its life

    /// From QEMU's start to its end.
    func run(hasTerminal: Bool) throws -> Ending {
        // Beside each other: QEMU waits for the switches to connect, and they for its sockets.
        try ports.start()
        try addresses?.start()
        if let command = plan.passt { log.verbose(command.shellText) }
        try passt?.start(recording: ledger)
        try startQEMU()
        if !hasTerminal { showSerialOnOutput() }
        if let tmux = plan.tmux {
            let session = TerminalSession(
                tmux, plan.folders, loop: loop, ledger: ledger, log: log, hasTerminal: hasTerminal)
            session.onNoTerminal = { [unowned self] in showSerialOnOutput() }
            self.session = session
            if hasTerminal { session.open { _ in } }
        } else if hasTerminal {
            showSerialOnOutput()
        }
        try loop.run { qemuStatus != nil }
        // QEMU's last words on its pipes, which come with the same wake-up or not at all.
        try loop.drain()
        qmpChannel.drain()
        serialChannel.drain()
        return ending
    }

    private func startQEMU() throws {
        let (reading, writing) = try Descriptor.pipe()
        let words = WordReader(reading, loop: loop) { [unowned self] line in
            if Machine.isAboutSwitches(line) { return log.verbose("qemu: \(line)") }
            qemuWords = qemuWords.suffix(9) + [line]
            log.note("qemu: \(line)")
        }
        let theirs = Descriptor(writing)
        log.verbose(plan.qemu.shellText)
        let terminal = try pseudoTerminal.openOtherEnd()
        qemu = try plan.qemu.start(
            in: loop, .init(input: terminal.raw, output: terminal.raw, error: theirs.raw, ownTerminal: true),
            kind: .qemu
        ) { [unowned self] status in
            words.finish()
            qemuStatus = status
        }
        if let identity = ProcessIdentity(pid: qemu) { try ledger.record([.process(name: "qemu", identity)]) }
    }

    /// What QEMU says when it waits for a switch, and when one dies, which the launcher tells better.
    private static func isAboutSwitches(_ line: String) -> Bool {
        [": info: QEMU waiting for connection", "Failed to set msg fds", " ring restore failed"].contains(
            where: line.contains)
    }

    private func qemuIsUp() {
        log.verbose("QEMU is up (pid \(qemu))")
        ports.machineIsUp()
        if let vncPassword {
            qmp.execute("set_password", ["protocol": "vnc", "password": .string(vncPassword)]) { [unowned self] in
                if case .failure(let error) = $0 { log.warning("VNC takes no password: \(error.text)") }
            }
        }
        if wantsPowerDown { pressPowerButton() }
        if wrongImage != nil { qmp.execute("stop") }
        loop.after(Machine.settlingTime) { ResidentMemory.releaseCode() }
    }

    /// It must not go on with a disk that is not the one that was asked for; what it is, its owner can still look at.
    private func pause(for failure: Failure) {
        log.warning("\(failure.line); the machine is paused: end it with snabbvm stop")
        wrongImage = failure
        if qmp.isReady { qmp.execute("stop") }
    }

    private static let settlingTime = Duration.milliseconds(500)

    private func event(_ name: String, _ data: JSON) {
        switch name {
        case "SHUTDOWN": shutdownReason = data["reason"]?.string ?? "unknown"
        case "VSERPORT_CHANGE": agent.isConnected = data["open"]?.bool ?? false
        case "RESET" where data["guest"]?.bool == true: log.note("the guest restarts")
        case "BLOCK_IO_ERROR":
            log.warning("a disk failed under the guest: \(data["reason"]?.string ?? data.text)")
        default: break
        }
    }

    private func showSerialOnOutput() {
        guard serialToOutput == nil else { return }
        let outlet = Outlet(STDOUT_FILENO, loop: loop) { [unowned self] in
            if let serialToOutput { serial.remove(serialToOutput) }
        }
        serialToOutput = outlet
        serial.add(outlet)
    }

    // MARK: - Its end

    /// The power button, and time to react to it; at once when it is said now, or by who insists when it was asked before.
    func stop(now: Bool, insists: Bool) {
        let isRepeated = stopRequests > 0
        stopRequests += 1
        // A machine that is paused hears no button.
        let now = now || wrongImage != nil
        if now || isRepeated && insists {
            isPluggedOut = true
            return quit()
        }
        if isRepeated { return }
        wantsPowerDown = true
        if qmp.isReady { pressPowerButton() }
        let margin = min(2, plan.stopTimeout / 10)
        loop.after(.seconds(plan.stopTimeout - margin)) { [unowned self] in
            log.warning("the guest did not power off within \(Int(plan.stopTimeout)) s")
            wasCutOff = true
            quit()
        }
    }

    private static let pressAgain = Duration.seconds(5)

    /// Again now and then: a guest that is still booting does not hear it.
    private func pressPowerButton() {
        guard qemuStatus == nil, shutdownReason == nil, !wasCutOff, !isPluggedOut else { return }
        qmp.execute("system_powerdown")
        loop.after(Machine.pressAgain) { [unowned self] in pressPowerButton() }
    }

    /// The machine can't be had as it was asked for.
    private func fail(_ failure: Failure) {
        if self.failure == nil { self.failure = failure }
        quit()
    }

    private func quit() {
        guard qemu > 0 else { return }
        if qmp.isReady { qmp.execute("quit") } else { kill(qemu, SIGTERM) }
        loop.after(.seconds(2)) { [unowned self] in
            if qemuStatus == nil { kill(qemu, SIGKILL) }
        }
    }

    private var ending: Ending {
        if let failure = failure ?? wrongImage { return .failed(failure) }
        if wasCutOff { return .cutOff }
        if stopRequests > 0 { return .stopped }
        switch (qemuStatus, shutdownReason) {
        case (.code(0), "guest-shutdown"?), (.code(0), "guest-reset"?): return .poweredOff
        case (.code(0), let reason?):
            return .failed(
                Failure(.qemu, "go on with", "machine \(plan.name)", "QEMU was ended from outside (\(reason))"))
        default:
            let words = qemuWords.suffix(3).joined(separator: " / ")
            let said = words.isEmpty ? "QEMU ended with \(qemuStatus.map { "\($0)" } ?? "nothing")" : words
            let isDenied = words.contains("Permission denied") && plan.qemu.user != nil
            let isLocked = words.contains("Invalid password")
            return .failed(
                Failure(
                    isLocked ? .image : .qemu, qmp.isReady ? "go on with" : "start", "machine \(plan.name)", said,
                    remedy: isDenied
                        ? "QEMU runs as an ordinary user here; --qemu-user root gives it root's rights"
                        : isLocked
                            ? "see that the file of --secret-file holds the passphrase and nothing else, no newline either"
                            : nil))
        }
    }

    var uptime: Double {
        let parts = (ContinuousClock.now - started).components
        return Double(parts.seconds) + Double(parts.attoseconds) / 1e18
    }

    /// Ends what is left of the children, so that nothing of them is in the way when the ledger is unwound.
    func close() throws {
        if qemu != 0, qemuStatus == nil {
            kill(qemu, SIGKILL)
            try loop.run { qemuStatus != nil }
        }
        try ports.end()
        try addresses?.end()
        try passt?.end()
        fetch?.end()
        try session?.end()
        serialToOutput?.flush()
        log.listener = nil
    }

    /// The last thing: tells those who asked for the end how it was.
    func tellEnd(_ line: String, code: Int32) {
        for connection in waitingForEnd { connection.answer(["ended": .string(line), "code": .integer(Int64(code))]) }
        control.close()
        for channel in [qmpChannel, serialChannel, agentChannel] { channel.close() }
    }

    // MARK: - What others ask

    private func answer(_ verb: String, _ request: JSON, _ connection: ControlConnection) {
        switch verb {
        case "status": answerStatus(connection)
        case "stop":
            log.note("asked to stop")
            waitingForEnd.append(connection)
            stop(now: request["now"]?.bool ?? false, insists: false)
        case "attach":
            guard let stream = streams.first(where: { $0.name == request["stream"]?.string }) else {
                return connection.answer(["error": "no such stream"])
            }
            connection.attach(to: stream)
        case "streams": connection.answer(["streams": .array(streams.map { .string($0.name) })])
        case "ports": connection.answer((try? JSON(encoding: ports.status)) ?? [])
        case "ssh": answerSSH(connection)
        case "console":
            guard let session else { return connection.answer(["error": "there is no tmux"]) }
            session.open { connection.answer($0.map { ["error": .string($0)] } ?? .object([:])) }
        case "resize":
            pseudoTerminal.resize(rows: request["rows"]?.integer ?? 0, columns: request["columns"]?.integer ?? 0)
            connection.answer(.object([:]))
        default: connection.answer(["error": .string("'\(verb)' is nothing that can be asked")])
        }
    }

    private var streams: [ConsoleStream] { [screen, serial, logStream] + ports.streams }

    /// Where the guest's SSH server is to be found from here.
    private func answerSSH(_ connection: ControlConnection) {
        guard let nic = plan.networks.first else {
            return connection.answer(["error": "it has no network (--net none)"])
        }
        let reply = { [unowned self] (host: String, port: Int) in
            connection.answer([
                "host": .string(host), "port": .integer(Int64(port)), "knownHosts": .string(plan.folders.knownHosts),
            ])
        }
        if nic.mode == .user { return findForward(connection, reply) }
        if let address = nic.reachedAt { return reply("\(address)", 22) }
        agent.interfaces { [unowned self] interfaces in
            let leases = AddressService.leases(of: plan.folders)
            let addresses = NICStatus(nic, leases: leases, guest: interfaces).addresses
            guard let address = addresses.first(where: { !$0.isSix }) ?? addresses.first else {
                return connection.answer(["waiting": "its address is not known: it has no guest agent that would tell"])
            }
            reply("\(address)", 22)
        }
    }

    /// Through QEMU's user network a port of this host leads to the guest's: one that was asked for, or one more.
    private func findForward(_ connection: ControlConnection, _ reply: @escaping (String, Int) -> Void) {
        if let port = plan.networks.first?.published.first(where: { $0.guest == 22 && !$0.udp }) {
            let isAny = port.address.map { ["0.0.0.0", "::"].contains($0) } ?? true
            return reply(isAny ? "127.0.0.1" : port.address ?? "", port.host)
        }
        if let port = sshForward ?? plan.sshPort { return reply("127.0.0.1", port) }
        guard qmp.isReady, let port = SocketAddress.freePort() else {
            return connection.answer(["waiting": "it is starting"])
        }
        let line = "hostfwd_add eth0 tcp:127.0.0.1:\(port)-:22"
        qmp.execute("human-monitor-command", ["command-line": .string(line)]) { [unowned self] in
            // It says nothing when all is well.
            if case .success(let words) = $0, words.string?.trimmed.isEmpty == true {
                sshForward = port
                return reply("127.0.0.1", port)
            }
            connection.answer(["error": "QEMU leads no port to it"])
        }
    }

    private func answerStatus(_ connection: ControlConnection) {
        let reply = { [unowned self] (state: String) in
            agent.interfaces { [unowned self] interfaces in
                let status = MachineStatus(
                    plan, state: state, pid: qemu, uptime: uptime, guest: interfaces,
                    ports: ports.status, image: fetch?.progress)
                connection.answer((try? JSON(encoding: status)) ?? ["error": "the status can't be written"])
            }
        }
        guard qmp.isReady else { return reply("starting") }
        qmp.execute("query-status") { [unowned self] in
            let state = (try? $0.get())?["status"]?.string ?? "unknown"
            reply(stopRequests > 0 && state == "running" ? "stopping" : state)
        }
    }
}

/// QEMU's terminal, on which it draws the guest's screen.
private final class PseudoTerminal {
    private let master: Descriptor
    private let name: String
    private let loop: EventLoop
    private var outlet: Outlet!
    var onBytes: ([UInt8]) -> Void = { _ in }

    init(loop: EventLoop) throws(Failure) {
        self.loop = loop
        var raw: Int32 = -1
        var buffer = [CChar](repeating: 0, count: 64)
        do throws(Errno) {
            try Errno.check { clinux_pseudo_terminal(&raw, &buffer, buffer.count) }
            master = Descriptor(raw)
            name = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            try master.setNonBlocking()
        } catch {
            throw Failure(.host, "make", "a terminal for the machine's screen", error)
        }
        clinux_set_window_size(master.raw, 25, 80)
        outlet = Outlet(master.raw, loop: loop) {}
        outlet.onWaiting = { [unowned self] in loop.change(master.raw, to: $0 ? [.readable, .writable] : .readable) }
        loop.watch(master.raw, for: .readable) { [weak self] in self?.handle($0) }
    }

    private func handle(_ events: EventLoop.Events) {
        if events.contains(.writable) { outlet.flush() }
        do throws(Errno) {
            let bytes = try master.read(atMost: 65536)
            if bytes.isEmpty { loop.unwatch(master.raw) } else { onBytes(bytes) }
        } catch {
            // The other end is closed: EIO.
            if error != .wouldBlock { loop.unwatch(master.raw) }
        }
    }

    func openOtherEnd() throws(Failure) -> Descriptor {
        do throws(Errno) { return try Descriptor.open(name, O_RDWR | O_NOCTTY) } catch {
            throw Failure(.host, "open", name, error)
        }
    }

    func send(_ bytes: [UInt8]) { outlet.send(bytes) }

    /// A newcomer of the same size must see a whole screen too, and only a change makes QEMU draw it anew.
    func resize(rows: Int64, columns: Int64) {
        guard (1...1000).contains(rows), (1...1000).contains(columns) else { return }
        clinux_set_window_size(master.raw, UInt16(rows), UInt16(columns))
    }
}

private final class LogFile {
    private let descriptor: Descriptor

    init?(_ path: String) {
        guard let file = try? Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, mode: 0o600) else {
            return nil
        }
        descriptor = file
    }

    func write(_ line: String) { try? descriptor.writeAll(Array("\(line)\n".utf8)) }
}
