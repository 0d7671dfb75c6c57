import CLinux
import Glibc

/// tmux around the machine's streams, and the user's terminal attached to it; where there is no terminal, from the first
/// `snabbvm console` on. The machine does not depend on it: when tmux ends it is started again, and when it can't be had
/// the machine goes on without.
final class TerminalSession {
    private let command: Command
    private let socket: String
    private let name: String
    private let loop: EventLoop
    private let ledger: Ledger
    private let log: Log
    private let hasTerminal: Bool
    private var starter: Job?
    private var server: pid_t?
    private var client: pid_t?
    private var isEnding = false
    private var failures = 0
    private static let mostFailures = 3
    private var waiting: [(_ problem: String?) -> Void] = []
    /// The user's terminal shows nothing: something else must.
    var onNoTerminal: () -> Void = {}

    init(_ command: Command, _ folders: Folders, loop: EventLoop, ledger: Ledger, log: Log, hasTerminal: Bool) {
        self.command = command
        socket = folders.tmuxSocket
        name = folders.tmuxSession
        self.loop = loop
        self.ledger = ledger
        self.log = log
        self.hasTerminal = hasTerminal
    }

    /// Tells when the windows are there for somebody to attach to.
    func open(_ reply: @escaping (_ problem: String?) -> Void) {
        if server != nil { return reply(nil) }
        waiting.append(reply)
        if starter != nil { return }
        do { try start() } catch { failed("tmux did not start (\(error))") }
    }

    private func tellWaiting(_ problem: String?) {
        let replies = waiting
        waiting = []
        for reply in replies { reply(problem) }
    }

    /// The command ends when the server is up with all its windows, and prints the server's pid.
    private func start() throws {
        try ledger.record([.file(path: socket), .file(path: "\(socket).lock")])
        starter = try Job(
            command, in: loop, limit: .seconds(20), kind: .host,
            onEnd: { [unowned self] in
                try started(starter)
            })
    }

    private func started(_ job: Job?) throws {
        starter = nil
        guard let job, job.status == .code(0), let pid = pid_t(String(decoding: job.output, as: UTF8.self).trimmed),
            let identity = ProcessIdentity(pid: pid)
        else { return failed("tmux did not start (\(Job.words(of: job?.errors ?? "", status: job?.status)))") }
        do { try ledger.record([.process(name: "tmux", identity)]) } catch { log.warning("\(error.line)") }
        // It made itself a daemon, and so became a child of ours.
        server = pid
        loop.onExit(of: pid) { [unowned self] in serverEnded($0) }
        tellWaiting(nil)
        if isEnding { kill(pid, SIGTERM) } else if hasTerminal { attach() }
    }

    private func attach() {
        var attach = command
        attach.arguments = ["-u", "-N", "-S", socket, "attach-session", "-t", "=\(name)"]
        log.isOnTerminal = false
        do {
            client = try attach.start(
                in: loop,
                .init(input: STDIN_FILENO, output: STDOUT_FILENO, error: STDERR_FILENO, sharesTerminal: true)
            ) { [unowned self] status in clientEnded(status) }
        } catch {
            clientEnded(.code(127))
        }
    }

    /// Detached: attached again, since the terminal is the machine's as long as it runs.
    private func clientEnded(_ status: ExitStatus) {
        client = nil
        log.isOnTerminal = true
        if isEnding || server == nil { return }
        if status == .code(0) {
            // Soon, but not at once: a session that was closed takes a moment to take its server with it.
            loop.after(.milliseconds(100)) { [unowned self] in
                if client == nil, server != nil, !isEnding { attach() }
            }
        } else {
            failed("tmux could not show the machine on this terminal (\(status))")
        }
    }

    private func serverEnded(_ status: ExitStatus) {
        server = nil
        if !isEnding { failed("tmux ended (\(status))") }
    }

    private func failed(_ what: String) {
        tellWaiting(what)
        // Whoever wants to look can ask again.
        guard hasTerminal else { return log.note(what) }
        failures += 1
        if failures > TerminalSession.mostFailures {
            log.warning("\(what); the machine goes on without it")
            onNoTerminal()
            return
        }
        log.warning("\(what); starting it again")
        loop.after(.milliseconds(200 * failures)) { [unowned self] in
            if isEnding { return }
            if server == nil { open { _ in } } else if client == nil { attach() }
        }
    }

    /// Ends tmux, and waits until the user's terminal is as it was.
    func end() throws {
        isEnding = true
        if let server { kill(server, SIGTERM) }
        let limit = loop.after(.seconds(3)) { [unowned self] in
            for pid in [server, client].compactMap(\.self) { kill(pid, SIGKILL) }
        }
        try loop.run { starter == nil && server == nil && client == nil }
        loop.cancel(limit)
        log.isOnTerminal = true
    }
}
