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
        unsetenv("TMUX")
        try Command(program: tmux, arguments: client.folders.tmuxAttachment).become()
    }
}
