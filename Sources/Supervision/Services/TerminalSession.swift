import Glibc
import Model
import Planning
import System
import Values

/// tmux around the machine's streams, and the user's terminal attached to it; where there is no terminal, from the first
/// `snabbvm console` on. The machine does not depend on it: when tmux ends it is started again, and when it can't be had
/// the machine goes on without.
final class TerminalSession {
    private let service: Service
    private let client: Command
    private let loop: EventLoop
    private let log: Log
    let hasTerminal: Bool
    private var clientPID: pid_t?
    private var waiting: [(_ problem: String?) -> Void] = []
    /// The user's terminal shows nothing: something else must.
    var onNoTerminal: () -> Void = {}

    init(_ service: Service, _ folders: MachinePaths, loop: EventLoop, log: Log, hasTerminal: Bool) {
        self.service = service
        var client = service.plan.command
        client.arguments = folders.tmuxAttachment
        self.client = client
        self.loop = loop
        self.log = log
        self.hasTerminal = hasTerminal
        service.onStart = {}
        service.onLine = { line, isError in isError ? line : nil }
        service.onReady = { [unowned self] in
            tellWaiting(nil)
            if hasTerminal { attach() }
        }
        service.onLoss = { [unowned self] in lost($0) }
    }

    /// Tells when the windows are there for somebody to attach to.
    func open(_ reply: @escaping (_ problem: String?) -> Void) {
        if service.isReady { return reply(nil) }
        waiting.append(reply)
        do { try service.start() } catch { service.failed(.init(line: "tmux did not start (\(error))")) }
    }

    private func tellWaiting(_ problem: String?) {
        let replies = waiting
        waiting = []
        for reply in replies { reply(problem) }
    }

    private func attach() {
        if clientPID != nil || !service.isReady || service.isEnding { return }
        log.isOnTerminal = false
        do {
            clientPID = try client.start(
                in: loop, input: STDIN_FILENO, output: STDOUT_FILENO, error: STDERR_FILENO, terminal: .shared
            ) { [unowned self] status in clientEnded(status) }
        } catch {
            clientEnded(.code(127))
        }
    }

    /// Detached: attached again, since the terminal is the machine's as long as it runs.
    private func clientEnded(_ status: ExitStatus) {
        clientPID = nil
        log.isOnTerminal = true
        if service.isEnding || !service.isReady { return }
        if status == .code(0) {
            // Soon, but not at once: a session that was closed takes a moment to take its server with it.
            loop.after(.milliseconds(100)) { [unowned self] in attach() }
        } else {
            service.failed(.init(line: "tmux could not show the machine on this terminal (\(status))"))
        }
    }

    private func lost(_ loss: Service.Loss) {
        tellWaiting(loss.line)
        guard hasTerminal else { return log.note(loss.line) }
        if loss.pause != nil { return log.warning("\(loss.line); starting it again") }
        log.warning("\(loss.line); \(service.plan.loss)")
        onNoTerminal()
    }

    /// Waits until tmux has ended and the user's terminal is as it was.
    func end() throws {
        let limit = loop.after(.seconds(3)) { [unowned self] in
            if let clientPID { kill(clientPID, SIGKILL) }
        }
        try loop.run { service.isGone && clientPID == nil }
        loop.cancel(limit)
        log.isOnTerminal = true
    }
}
