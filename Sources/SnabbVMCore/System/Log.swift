import Glibc

/// What the launcher says: to the user, to the log file, and to who looks at the log window.
final class Log {
    enum Level: String { case warning, note, verbose }

    private let verbosity: Verbosity
    private let json: Bool
    /// While tmux has the terminal, nothing else may write there.
    var isOnTerminal = true
    /// Where all lines go besides, those too that were said before; and whether they are for the user to see.
    var listener: ((_ line: String, _ isShown: Bool) -> Void)? {
        didSet {
            guard let listener else { return }
            for (line, isShown) in early { listener(line, isShown) }
            early = []
        }
    }
    private var early: [(String, Bool)] = []

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
        tell(failure.line, isShown: true)
    }

    private func tell(_ line: String, isShown: Bool) {
        if let listener { listener(line, isShown) } else { early.append((line, isShown)) }
    }

    private func say(_ level: Level, _ text: String) {
        let line = (level == .warning ? "warning: " : "") + text.oneLine
        let isShown = verbosity >= (level == .verbose ? .verbose : .normal)
        tell(line, isShown: isShown)
        guard isShown, isOnTerminal else { return }
        if json {
            Log.print((["level": .string(level.rawValue), "message": .string(text)] as JSON).text)
        } else {
            Log.print("snabbvm: \(line)")
        }
    }

    /// One write a line, so that lines of several programs do not mix.
    private static func print(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
