import CLinux
import Glibc

/// The program that moves one port's frames: started, watched, started again when it ends by itself.
final class PortSwitch {
    private(set) var plan: PortPlan
    let stream: ConsoleStream
    private let folders: Folders
    private let engine: any PortEngine
    private let loop: EventLoop
    private let ledger: Ledger
    private let log: Log
    private var reader: any SwitchReader

    /// How often in a row it may fail before the machine is up.
    var retries = 0
    var onFailure: (Failure) -> Void = { _ in }

    private var process: SwitchProcess?
    private var state = PortStatus.State.starting
    private(set) var hasConnected = false
    private var connectedAt: ContinuousClock.Instant?
    private var upSince: ContinuousClock.Instant?
    private var isMachineUp = false
    private var isEnding = false
    private var failuresInARow = 0
    private var restarts = 0
    private var problem: String?
    /// The settings that the switch was seen to take.
    private var inForce: PortSettings?

    /// What the earlier processes counted.
    private var past = PortCounters()
    private var current: PortCounters?
    private var sampled: (counters: PortCounters, at: ContinuousClock.Instant)?
    private var rates: PortStatus.Rates?

    /// At once, then slower and slower.
    private static let waits: [Duration] = [
        .zero, .milliseconds(100), .milliseconds(200), .milliseconds(500), .seconds(1), .seconds(2), .seconds(5),
    ]
    /// One that moved frames for this long had no trouble starting.
    private static let soundTime = Duration.milliseconds(200)
    /// Or that was there for this long, for a guest that has no driver for it.
    private static let longTime = Duration.seconds(10)

    init(_ plan: PortPlan, _ folders: Folders, loop: EventLoop, ledger: Ledger, log: Log) {
        self.plan = plan
        self.folders = folders
        self.loop = loop
        self.ledger = ledger
        self.log = log
        engine = Engines.named(plan.engine)
        reader = engine.makeReader(for: plan, folders)
        stream = ConsoleStream(plan.name)
        if plan.command == nil {
            state = .passedThrough
            hasConnected = true
        }
        tell(
            "port \(plan.name): \(plan.source) by \(plan.engine.rawValue) (\(plan.driver)), \(plan.guestName) in the machine"
        )
    }

    private func tell(_ line: String) { stream.receivedLine(line) }

    // MARK: - Its life

    func start() throws {
        guard let command = plan.command, !isEnding else { return }
        // QEMU makes it, and leaves it there when it is killed.
        if restarts == 0 {
            try ledger.record([.file(path: plan.socket)])
            if case .interface(let name) = plan.source, engine.leavesProgram(plan.driver) {
                try ledger.record([.xdp(interface: name)])
            }
        }
        state = .starting
        reader = engine.makeReader(for: plan, folders)
        log.verbose("\(plan.name): \(command.shellText)")
        let process = try SwitchProcess(command, loop: loop, ledger: ledger, name: plan.name)
        process.onLine = { [unowned self] line, isError in read(line, isError) }
        process.onEnd = { [unowned self] in try ended() }
        self.process = process
    }

    private func read(_ line: String, _ isError: Bool) {
        let (event, words) = reader.read(line, isError: isError)
        if let words, !words.isEmpty {
            tell(words)
            log.verbose("\(plan.name): \(words)")
            process?.lastWords = (process?.lastWords.suffix(2) ?? []) + [words]
        }
        guard let event else { return }
        process?.noteChildren()
        switch event {
        case .connected:
            hasConnected = true
            connectedAt = .now
            inForce = inForce ?? plan.settings
            state = .connected
            problem = nil
        case .up:
            state = .up
            upSince = .now
        case .down: state = .connected
        case .disconnected: state = .starting
        case .applied:
            // Also when what was refused is taken back.
            if inForce != plan.settings { log.note("\(plan.name): changed as the file says") }
            inForce = plan.settings
        case .hugepageAdded:
            log.warning("\(plan.name): Snabb raised vm.nr_hugepages by 1, until the machine ends")
            do { try ledger.record([.hugepageAdded]) } catch { log.warning(error.line) }
        case .refused(let reason):
            log.warning("\(plan.name) stays as it is: \(reason)")
            // Else the next start of the switch would fail by it.
            if let inForce, inForce != plan.settings { write(inForce) }
        }
        tell("\(event)")
        log.verbose("\(plan.name): \(event)")
    }

    private func ended() throws {
        guard let process else { return }
        self.process = nil
        past = total
        (current, sampled, rates) = (nil, nil, nil)
        if isEnding { return }
        if let upSince, .now - upSince > PortSwitch.soundTime { failuresInARow = 0 }
        if let connectedAt, .now - connectedAt > PortSwitch.longTime { failuresInARow = 0 }
        (upSince, connectedAt) = (nil, nil)
        let words = process.lastWords.joined(separator: " / ")
        let ending = process.status.map { "\($0)" } ?? "no word"
        failed(ending, words)
    }

    private func failed(_ ending: String, _ words: String) {
        state = .down
        failuresInARow += 1
        restarts += 1
        problem = words.isEmpty ? ending : words
        if !isMachineUp, failuresInARow >= max(1, retries) { return onFailure(failure(problem ?? "")) }
        let wait = PortSwitch.waits[min(failuresInARow - 1, PortSwitch.waits.count - 1)]
        let line = "the switch of port \(plan.name) ended (\(ending)\(words.isEmpty ? "" : ": \(words)"))"
        tell(line)
        log.warning(wait == .zero ? "\(line); it is started again" : "\(line); it is started again in \(wait)")
        loop.after(wait) { [unowned self] in
            // That it can't even be started is one more failure of its, not the machine's.
            do { try start() } catch { failed("not started", "\((error as? Failure)?.line ?? "\(error)")") }
        }
    }

    func failure(_ cause: String) -> Failure {
        Failure(
            .port, "run the switch of port", "\(plan.name) (\(plan.source))", cause,
            remedy: "see its log with --verbose, or try another engine=")
    }

    func machineIsUp() { isMachineUp = true }

    func end() {
        isEnding = true
        process?.end()
    }

    var isGone: Bool { process == nil }

    // MARK: - Settings

    /// Takes over what a running switch can take; the rest is for the next start.
    func apply(_ settings: PortSettings) {
        let changed = PortKey.table.filter { !$0.isSame(settings, plan.settings) }
        if changed.isEmpty { return }
        for row in changed where !row.isLive || !engine.keys.contains(row.name) {
            log.warning("\(plan.name): a new \(row.name) waits for the machine's next start")
        }
        guard changed.contains(where: { $0.isLive && engine.keys.contains($0.name) }) else { return }
        var next = plan
        for row in PortKey.table where row.isLive { row.take(settings, &next.settings) }
        write(next.settings)
    }

    private func write(_ settings: PortSettings) {
        var next = plan
        next.settings = settings
        guard let content = engine.settings(of: next) else { return }
        do throws(Errno) {
            try Files.replace(plan.settingsFile, Array("\(content.prettyText)\n".utf8), mode: 0o600)
            plan = next
        } catch {
            log.warning("\(plan.name): \(plan.settingsFile) can't be written: \(error)")
        }
    }

    // MARK: - Counters

    private var total: PortCounters { past.combined(with: current ?? PortCounters(), &+) }

    /// Reads the counters, and what has come since the last time.
    func sample() {
        guard let process else { return show() }
        if let counters = reader.counters(pid: process.pid) { current = counters }
        let now = (counters: total, at: ContinuousClock.now)
        if let sampled {
            let parts = (now.at - sampled.at).components
            let seconds = Double(parts.seconds) + Double(parts.attoseconds) / 1e18
            let since = now.counters.combined(with: sampled.counters) { $0 >= $1 ? $0 - $1 : 0 }
            let rate = { (count: UInt64, scale: Double) in
                UInt64((Double(count) * scale / max(seconds, 0.001)).rounded())
            }
            rates = PortStatus.Rates(
                rxPackets: rate(since.rxPackets, 1), rxBits: rate(since.rxBytes, 8),
                txPackets: rate(since.txPackets, 1), txBits: rate(since.txBytes, 8))
        }
        sampled = now
        show()
    }

    private func show() {
        if stream.isWatched, plan.command != nil { stream.show(footer: status.footer) }
    }

    var status: PortStatus {
        if let process, let counters = reader.counters(pid: process.pid) { current = counters }
        return PortStatus(
            name: plan.name, guestName: plan.guestName, port: plan.source, engine: plan.engine, driver: plan.driver,
            mac: plan.mac, state: state, pid: process?.pid, restarts: restarts, cpu: plan.cpu, node: plan.node,
            settings: plan.settings, counters: plan.command == nil ? nil : withLink(total),
            rates: plan.command == nil ? nil : rates ?? PortStatus.Rates(), problem: problem)
    }

    private func withLink(_ counters: PortCounters) -> PortCounters {
        var counters = counters
        counters.hasLink = current?.hasLink
        return counters
    }
}

/// One run of a switch. Snabb has a child of its own that cleans up after it: the run is over when both are gone, which
/// their pipes tell.
final class SwitchProcess {
    private(set) var pid: pid_t = 0
    private(set) var status: ExitStatus?
    var lastWords: [String] = []
    var onLine: (_ line: String, _ isError: Bool) -> Void = { _, _ in }
    var onEnd: () throws -> Void = {}

    private let loop: EventLoop
    private let ledger: Ledger
    private let name: String
    private var output: WordReader!
    private var errors: WordReader!
    /// Closed, it tells the switch to end.
    private var lifeline: HeldDescriptor?
    private var children: [ProcessIdentity]?
    private var isOver = false

    private static let patience = Duration.seconds(2)

    init(_ command: Command, loop: EventLoop, ledger: Ledger, name: String) throws {
        self.loop = loop
        self.ledger = ledger
        self.name = name
        let input = try Descriptor.pipe()
        let out = try Descriptor.pipe()
        let err = try Descriptor.pipe()
        defer { for theirs in [input.reading, out.writing, err.writing] { close(theirs) } }
        lifeline = HeldDescriptor(Descriptor(input.writing))
        output = WordReader(out.reading, loop: loop) { [unowned self] in onLine($0, false) }
        errors = WordReader(err.reading, loop: loop) { [unowned self] in onLine($0, true) }
        pid = try command.start(
            in: loop, .init(input: input.reading, output: out.writing, error: err.writing), kind: .port
        ) { [self] in
            status = $0
            // What would clean up after it does so now; a moment later it is done for.
            loop.after(SwitchProcess.patience) { [self] in
                killChildren()
                try finish()
            }
            try finishWhenQuiet()
        }
        output.onEnd = { [self] in try finishWhenQuiet() }
        errors.onEnd = { [self] in try finishWhenQuiet() }
        if let identity = ProcessIdentity(pid: pid) { try ledger.record([.process(name: name, identity)]) }
        loop.after(SwitchProcess.timeToFork) { [weak self] in self?.noteChildren() }
    }

    /// Snabb's child is its first deed.
    private static let timeToFork = Duration.milliseconds(30)

    /// What it has started by now, so that a release after the launcher's death ends it before a NIC is given back.
    func noteChildren() {
        guard children?.isEmpty ?? true else { return }
        let pids = (FileTree().line("/proc/\(pid)/task/\(pid)/children") ?? "").split(separator: " ")
        children = pids.compactMap { Int32($0) }.compactMap(ProcessIdentity.init)
        for child in children ?? [] { try? ledger.record([.process(name: "\(name)-supervisor", child)]) }
    }

    private func finishWhenQuiet() throws {
        if status != nil, output.hasEnded, errors.hasEnded { try finish() }
    }

    private func finish() throws {
        if isOver { return }
        isOver = true
        output.finish()
        errors.finish()
        try onEnd()
        // Whoever refers to this one lets go of it, and of its descriptors.
        onLine = { _, _ in }
        onEnd = {}
        (output.onEnd, errors.onEnd) = ({}, {})
        lifeline = nil
    }

    private func killChildren() {
        for child in children ?? [] where child.isAlive { kill(child.pid, SIGKILL) }
    }

    func end() {
        lifeline = nil
        if status == nil { kill(pid, SIGTERM) }
        loop.after(SwitchProcess.patience) { [self] in
            if status == nil { kill(pid, SIGKILL) }
        }
    }
}
