import Glibc

/// What the launcher says: to the user, to the log file, and to who looks at the log window.
final class Log {
    enum Level: String { case error, warning, note, verbose }

    private let verbosity: Verbosity
    private let json: Bool
    /// While tmux has the terminal, nothing else may write there.
    var isOnTerminal = true
    /// Where lines go besides: first those that were said before.
    var listener: ((String) -> Void)? {
        didSet {
            guard let listener else { return }
            for line in early { listener(line) }
            early = []
        }
    }
    private var early: [String] = []

    init(verbosity: Verbosity, json: Bool) {
        self.verbosity = verbosity
        self.json = json
    }

    func note(_ text: String) { say(.note, text) }
    func warning(_ text: String) { say(.warning, text) }
    func verbose(_ text: String) { say(.verbose, text) }

    func failure(_ failure: Failure) {
        if json {
            let object: JSON = [
                "level": "error", "message": .string(failure.line), "exitCode": .integer(Int64(failure.kind.rawValue)),
            ]
            Log.print(object.text)
        } else {
            Log.print("snabbvm: \(failure.line)")
        }
        tell(failure.line)
    }

    private func tell(_ line: String) {
        if let listener { listener(line) } else { early.append(line) }
    }

    private func say(_ level: Level, _ text: String) {
        tell((level == .warning ? "warning: " : "") + text.oneLine)
        let wanted: Verbosity = level == .verbose ? .verbose : .normal
        guard verbosity >= wanted, isOnTerminal else { return }
        if json {
            Log.print((["level": .string(level.rawValue), "message": .string(text)] as JSON).text)
        } else {
            Log.print("snabbvm: " + (level == .warning ? "warning: " : "") + text.oneLine)
        }
    }

    /// One write a line, so that lines of several programs do not mix.
    private static func print(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}

extension String {
    func cut(to length: Int) -> String { count > length ? prefix(length) + "…" : self }
}
