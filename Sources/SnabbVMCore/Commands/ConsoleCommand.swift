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
        guard let tmux = Files.findProgram("tmux") else {
            throw Failure(
                .host, "show", "the console", "tmux is not on PATH",
                remedy: "apt-get install tmux, or name a stream: console serial")
        }
        guard isatty(STDIN_FILENO) == 1 else {
            throw Failure(.usage, "show", "the console", "this is no terminal", remedy: "name a stream: console serial")
        }
        let answer = try client.ask(.console)
        if let problem = try? answer.decode(ControlAnswer.Outcome.self).error {
            throw Failure(.host, "show", "the console", problem, remedy: "name a stream: console serial")
        }
        signal(SIGPIPE, SIG_DFL)
        unsetenv("TMUX")
        let words = CStrings([
            tmux, "-u", "-N", "-S", client.folders.tmuxSocket, "attach-session", "-t", "=\(client.folders.tmuxSession)",
        ])
        execv(tmux, words.pointer)
        throw Failure(.host, "start", tmux, Errno.last)
    }
}
