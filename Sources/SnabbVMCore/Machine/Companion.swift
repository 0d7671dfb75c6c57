import Glibc

/// A program that runs beside the machine for it. What it said last tells why it ended.
final class Companion {
    private let command: Command
    private let name: String
    private let loop: EventLoop
    private var words: WordReader?
    private var lastWords: [String] = []
    private(set) var pid: pid_t?
    var onLine: (String) -> Void = { _ in }
    var onEnd: (_ status: ExitStatus, _ words: String) throws -> Void = { _, _ in }

    init(_ command: Command, name: String, loop: EventLoop) {
        self.command = command
        self.name = name
        self.loop = loop
    }

    /// Once more, too, when it has ended.
    func start(recording ledger: Ledger?) throws {
        let (reading, writing) = try Descriptor.pipe()
        words = WordReader(reading, loop: loop) { [unowned self] line in
            lastWords = lastWords.suffix(2) + [line]
            onLine(line)
        }
        let theirs = Descriptor(writing)
        let started = try command.start(
            in: loop, .init(output: theirs.raw, error: theirs.raw), kind: .network
        ) { [unowned self] status in
            words?.finish()
            pid = nil
            try onEnd(status, lastWords.isEmpty ? "\(status)" : lastWords.joined(separator: " / "))
        }
        pid = started
        if let identity = ProcessIdentity(pid: started) {
            try ledger?.record([.process(name: name, identity)])
        }
    }

    func kill() { if let pid { _ = Glibc.kill(pid, SIGKILL) } }

    /// It has nothing to put in order.
    func end() throws {
        kill()
        try loop.run { pid == nil }
    }
}
