import Glibc
import Host
import Model
import Planning
import System
import Values

/// A program beside the machine: started, watched, started again when it ends by itself, all as its plan says.
final class Service {
    var plan: ServicePlan
    private let loop: EventLoop
    private let ledger: Ledger?
    private let log: Log
    private var process: ServiceProcess?
    /// What the command has left, where the service is a daemon.
    private var daemon: pid_t?
    /// How the last run ended.
    private(set) var status: ExitStatus?
    private var lastWords: [String] = []
    private var lastOutput = ""

    private(set) var isReady = false
    private(set) var isEnding = false
    private var hasGivenUp = false
    private var isOnTrial = true
    private var starts = 0
    private var failures = 0

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

    var pid: Int32? { daemon ?? process?.pid }
    var isGone: Bool { process == nil && daemon == nil }

    // MARK: - Its start

    func start() throws {
        if isEnding || process != nil { return }
        if daemon != nil { return onReady() }
        if starts == 0, !plan.leaves.isEmpty { try ledger?.record(plan.leaves) }
        starts += 1
        (lastWords, lastOutput) = ([], "")
        onStart()
        let process = try ServiceProcess(plan, loop: loop, ledger: ledger)
        process.onLine = { [self] line, isError in
            if !isError { lastOutput = line }
            if let words = onLine(line, isError) { lastWords = lastWords.suffix(2) + [words] }
        }
        process.onEnd = { [self] in ended() }
        self.process = process
        switch plan.readiness {
        case .atOnce: becameReady()
        case .told: break
        case .socket(_, let limit), .daemon(let limit):
            loop.after(.milliseconds(limit)) { [weak self, weak process] in
                if self?.isReady == false { process?.signal(SIGKILL) }
            }
        }
    }

    func becameReady() {
        isReady = true
        if plan.restarts.trial == .untilReady { isOnTrial = false }
        if let time = plan.restarts.soundAfter { isSound(after: .milliseconds(time)) }
        onReady()
    }

    /// A run that lasts for so long from now on had no trouble to start.
    func isSound(after time: Duration) {
        let run = starts
        loop.after(time) { [weak self] in
            guard let self, starts == run, !isGone else { return }
            failures = 0
            if plan.restarts.trial == .untilSound { isOnTrial = false }
        }
    }

    /// Whether QEMU need no longer wait for it.
    func isSettled() -> Bool {
        guard case .socket(let path, _) = plan.readiness else { return true }
        if !isReady, process != nil, access(path, F_OK) == 0 { becameReady() }
        return isReady || hasGivenUp
    }

    func machineIsUp() { if plan.restarts.trial == .untilMachineIsUp { isOnTrial = false } }

    /// What the run has started by now is its own.
    func noteChildren() { process?.noteChildren() }

    // MARK: - Its end

    private func ended() {
        status = process?.status
        process = nil
        if plan.isDaemon, status == .code(0), let pid = pid_t(lastOutput), let identity = ProcessIdentity(pid: pid) {
            return adopt(identity)
        }
        lost(status.map { "\($0)" } ?? "no word", lastWords.joined(separator: " / "))
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

    /// From here on nobody misses it.
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
        if let daemon { kill(daemon, number) } else if !plan.isDaemon { process?.signal(number) }
    }
}
