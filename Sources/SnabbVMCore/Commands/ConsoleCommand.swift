import Glibc
import Model
import Supervision
import System
import Values

/// `snabbvm console`: becomes a tmux client, or shows one stream.
enum ConsoleCommand {
    static func perform(_ arguments: Arguments) throws -> Int32 {
        let client = try ControlClient(arguments)
        if let stream = arguments.operand {
            try Relay.run(stream, of: client, escape: 0x1d)
            return 0
        }
        let failure = { (kind: FailureKind, cause: String, install: String) in
            Failure(kind, "show", "the console", cause, remedy: "\(install)name a stream: console serial")
        }
        guard let tmux = Files.findProgram("tmux") else {
            throw failure(.host, "tmux is not on PATH", "apt-get install tmux, or ")
        }
        if isatty(STDIN_FILENO) == 0 { throw failure(.usage, "this is no terminal", "") }
        let answer = try client.ask(.console)
        if let problem = try? answer.decode(ControlAnswer.Outcome.self).error {
            throw failure(.host, problem, "")
        }
        try client.checkTmux()
        unsetenv("TMUX")
        try Command(program: tmux, arguments: client.folders.tmuxAttachment).become()
    }
}
