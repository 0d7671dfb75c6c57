import CLinux
import Glibc
import Values

/// What the launcher says: to the user, to the log file, and to who looks at the log window.
package final class Log {
    private enum Level: String { case warning, note, verbose }

    private let verbosity: Verbosity
    private let json: Bool
    /// While tmux has the terminal, nothing else may write there.
    package var isOnTerminal = true
    /// Where all lines go besides, those too that were said before; and whether they are for the user to see.
    package var listener: ((_ line: String, _ isShown: Bool) -> Void)? {
        didSet {
            guard let listener else { return }
            for (line, isShown) in early { listener(line, isShown) }
            early = []
        }
    }
    private var early: [(String, Bool)] = []
    private var hasPassing = false

    package init(verbosity: Verbosity, json: Bool) {
        self.verbosity = verbosity
        self.json = json
    }

    package enum Style {
        case terminal(columns: Int)
        case lines, objects
    }

    /// How what passes is shown.
    package var style: Style {
        if json { return .objects }
        var (rows, columns) = (UInt16(0), UInt16(0))
        let isTerminal = isatty(STDERR_FILENO) == 1 && verbosity >= .normal && isOnTerminal
        guard isTerminal, clinux_window_size(STDERR_FILENO, &rows, &columns) == 0 else { return .lines }
        return .terminal(columns: max(40, Int(columns)))
    }

    /// A line that stands below the others until the next one takes its place, or nil.
    package func showPassing(_ line: String?) {
        if line == nil, !hasPassing { return }
        write("\r\u{1b}[K" + (line ?? "").oneLine)
        hasPassing = line != nil
    }

    package func object(_ json: JSON) {
        if verbosity >= .normal { print(json.text) }
    }

    package func note(_ text: String) { say(.note, text) }
    package func warning(_ text: String) { say(.warning, text) }
    package func verbose(_ text: String) { say(.verbose, text) }

    package func failure(_ failure: Failure) {
        print(
            failure.line,
            ["level": "error", "message": .string(failure.line), "exitCode": .integer(Int64(failure.kind.rawValue))])
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
        print(line, ["level": .string(level.rawValue), "message": .string(text)])
    }

    private func print(_ line: String, _ object: JSON) { print(json ? object.text : "snabbvm: \(line)") }

    /// One write a line, so that lines of several programs do not mix.
    private func print(_ line: String) {
        write((hasPassing ? "\r\u{1b}[K" : "") + "\(line)\n")
        hasPassing = false
    }

    private func write(_ text: String) {
        let bytes = Array(text.utf8)
        _ = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
