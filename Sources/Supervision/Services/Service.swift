import Glibc
import Host
import Model
import Planning
import System
import Values

/// A program beside the machine: started, watched, started again when it ends by itself, all as its plan says.
final class Service {
    let plan: ServicePlan
    private let loop: EventLoop
    private let ledger: Ledger?
    private let log: Log
    /// Of this run, which is over when what the program has started is gone too: that its pipes tell.
    private var process: pid_t?
    /// What the command has left, where the service is a daemon.
    private var daemon: pid_t?
    /// How the last process ended.
    private(set) var status: ExitStatus?
    private var readers: [WordReader] = []
    /// Closed, it tells a program to end that wants time for it.
    private var lifeline: HeldDescriptor?
    /// Snabb has a child of its own that cleans up after it.
    private var children: [ProcessIdentity] = []
    private var lastWords: [String] = []
    private var lastOutput = ""

    private(set) var isReady = false
    private(set) var isEnding = false
    private var hasGivenUp = false
    private var isOnTrial = true
    private var starts = 0
    private var failures = 0

    /// For the children of a program that has ended.
    private static let patience = Duration.seconds(2)
    /// Snabb's child is its first deed.
    private static let timeToFork = Duration.milliseconds(30)

    /// An end that nobody asked for.
    struct Loss {
        /// What happened, in one line.
        var line: String
        var status = ""
        var words = ""
        var cause: String { words.isEmpty ? status : words }
        /// Until it is started again; nil where it is not.
        var pause: Duration?
    }

    var onStart: () -> Void
    /// Returns what of the line is worth to be among its last words.
    var onLine: (_ line: String, _ isError: Bool) -> String?
    var onReady: () -> Void = {}
    /// It has ended, whatever follows from that.
    var onEnd: (Loss) -> Void = { _ in }
    /// The machine goes on, with it or without.
    var onLoss: (Loss) -> Void
    /// The machine can't do without, and can't have it.
    var onFailure: (Failure) -> Void = { _ in }

    init(_ plan: ServicePlan, loop: EventLoop, ledger: Ledger?, log: Log) {
        self.plan = plan
        self.loop = loop
        self.ledger = ledger
        self.log = log
        onStart = { log.verbose(plan.command.shellText) }
        onLine = { line, _ in
            log.verbose(line)
            return line
        }
        onLoss = { log.warning($0.pause == nil ? "\($0.line): \(plan.loss)" : "\($0.line); it is started again") }
    }

    var pid: Int32? { daemon ?? process }
    var isGone: Bool { process == nil && daemon == nil }

    func start() throws {
        if isEnding || process != nil { return }
        if daemon != nil { return onReady() }
        if starts == 0, !plan.leaves.isEmpty { try ledger?.record(plan.leaves) }
        starts += 1
        (status, children, lastWords, lastOutput) = (nil, [], [], "")
        onStart()
        try startProcess()
        switch plan.readiness {
        case .atOnce: becameReady()
        case .told: break
        case .socket(_, let limit), .daemon(let limit):
            let run = starts
            loop.after(.milliseconds(limit)) { [weak self] in
                if let self, starts == run, !isReady { signalProcess(SIGKILL) }
            }
        }
    }

    private func startProcess() throws {
        let out = try Descriptor.pipe()
        let err = try Descriptor.pipe()
        var theirs = [out.writing, err.writing]
        defer { for descriptor in theirs { close(descriptor) } }
        if plan.timeToEnd != nil, !plan.isDaemon {
            let input = try Descriptor.pipe()
            lifeline = HeldDescriptor(Descriptor(input.writing))
            theirs.append(input.reading)
        }
        readers = [
            WordReader(out.reading, loop: loop) { [self] in heard($0, isError: false) },
            WordReader(err.reading, loop: loop) { [self] in heard($0, isError: true) },
        ]
        let pid = try plan.command.start(
            in: loop, input: theirs.count > 2 ? theirs[2] : nil, output: out.writing, error: err.writing,
            kind: plan.failure?.kind ?? .host
        ) { [self] in try exited($0) }
        process = pid
        for reader in readers { reader.onEnd = { [self] in try finishWhenQuiet() } }
        // What a daemon's command starts is the service itself.
        if plan.isDaemon { return }
        if let identity = ProcessIdentity(pid: pid) { try ledger?.record([.process(name: plan.name, identity)]) }
        loop.after(Service.timeToFork) { [weak self] in self?.noteChildren() }
    }

    private func heard(_ line: String, isError: Bool) {
        if !isError { lastOutput = line }
        if let words = onLine(line, isError) { lastWords = lastWords.suffix(2) + [words] }
    }

    func becameReady() {
        isReady = true
        if plan.restarts.trial == .untilReady { isOnTrial = false }
        if let time = plan.restarts.soundAfter { isSound(after: .milliseconds(time)) }
        onReady()
    }

    /// A run that lasts for so long from now on had no trouble to start: failures before it no longer count.
    func isSound(after time: Duration) {
        let run = starts
        loop.after(time) { [weak self] in
            guard let self, starts == run, !isGone else { return }
            failures = 0
            if plan.restarts.trial == .untilSound { isOnTrial = false }
        }
    }

    /// Whether the start of QEMU, which connects to the sockets of services, need no longer wait for this one.
    func isSettled() -> Bool {
        guard case .socket(let path, _) = plan.readiness else { return true }
        if !isReady, process != nil, access(path, F_OK) == 0 { becameReady() }
        return isReady || hasGivenUp
    }

    func machineIsUp() { if plan.restarts.trial == .untilMachineIsUp { isOnTrial = false } }

    /// Children that the program has by now are in the ledger too: a release after the launcher's death ends them before a
    /// NIC is given back.
    func noteChildren() {
        guard let process, children.isEmpty else { return }
        let pids = (FileTree().line("/proc/\(process)/task/\(process)/children") ?? "").split(separator: " ")
        children = pids.compactMap { Int32($0) }.compactMap(ProcessIdentity.init)
        for child in children { try? ledger?.record([.process(name: "\(plan.name)-supervisor", child)]) }
    }

    private func exited(_ status: ExitStatus) throws {
        self.status = status
        // What would clean up after it does so now; a moment later it is done for.
        loop.after(Service.patience) { [self, children, starts] in
            for child in children where child.isAlive { kill(child.pid, SIGKILL) }
            if starts == self.starts { try finish() }
        }
        try finishWhenQuiet()
    }

    private func finishWhenQuiet() throws {
        if readers.allSatisfy(\.hasEnded) { try finish() }
    }

    private func finish() throws {
        guard let status, process != nil else { return }
        for reader in readers { try reader.finish() }
        (process, readers, lifeline) = (nil, [], nil)
        if plan.isDaemon, status == .code(0), let pid = pid_t(lastOutput), let identity = ProcessIdentity(pid: pid) {
            return adopt(identity)
        }
        lost("\(status)", lastWords.joined(separator: " / "))
    }

    /// A daemon has left its parent, and so become a child of ours.
    private func adopt(_ identity: ProcessIdentity) {
        do { try ledger?.record([.process(name: plan.name, identity)]) } catch { log.warning(error.line) }
        daemon = identity.pid
        loop.onExit(of: identity.pid) { [self] in
            daemon = nil
            lost("\($0)", "")
        }
        becameReady()
        if isEnding { end() }
    }

    private func lost(_ status: String, _ words: String) {
        let what = isReady ? "ended" : "did not start"
        isReady = false
        if isEnding { return }
        let line = "\(plan.name) \(what) (\(words.isEmpty ? status : words))"
        failed(Loss(line: line, status: status, words: words))
    }

    /// One more failure in a row, of the service or of what it is for.
    func failed(_ loss: Loss) {
        var loss = loss
        failures += 1
        onEnd(loss)
        let isTooMuch = isOnTrial && failures > plan.restarts.most
        hasGivenUp = isTooMuch || plan.restarts.pauses.isEmpty
        if isTooMuch, let failure = plan.failure(loss.cause) { return onFailure(failure) }
        if hasGivenUp { return onLoss(loss) }
        let pause = Duration.milliseconds(plan.restarts.pauses[min(failures, plan.restarts.pauses.count) - 1])
        loss.pause = pause
        onLoss(loss)
        loop.after(pause) { [self] in
            // That it can't even be started is one more failure of its, not the machine's.
            do { try start() } catch { lost("not started", (error as? Failure)?.line ?? "\(error)") }
        }
    }

    /// An end from here on is no loss: QEMU, which it served, is gone.
    func machineIsGone() { isEnding = true }

    /// Asks it to end, or kills it; `isGone` tells when it has.
    func end() {
        isEnding = true
        guard let time = plan.timeToEnd else { return signal(SIGKILL) }
        signal(SIGTERM)
        loop.after(.milliseconds(time)) { [weak self] in self?.signal(SIGKILL) }
    }

    /// A daemon's command is left to finish: a daemon that nobody knows would stay.
    private func signal(_ number: Int32) {
        if let daemon { kill(daemon, number) } else if !plan.isDaemon { signalProcess(number) }
    }

    private func signalProcess(_ number: Int32) {
        lifeline = nil
        if status == nil, let process { kill(process, number) }
    }
}
