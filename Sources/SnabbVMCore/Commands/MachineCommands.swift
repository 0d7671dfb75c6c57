import Glibc
import Model
import Supervision
import System
import Values

/// What can be asked of a running machine.
enum MachineCommands {
    /// `snabbvm status`: how a running machine is.
    static func status(_ arguments: Arguments) throws -> Int32 {
        if arguments.health { return health(arguments) }
        let answer = try ControlClient(arguments).ask(.status)
        print(arguments.json ? answer.prettyText : try answer.decode(MachineStatus.self).text)
        return 0
    }

    /// For probes, which know two answers: 0 and 1, with one line that they keep.
    private static func health(_ arguments: Arguments) -> Int32 {
        do {
            let status = try ControlClient(arguments).ask(.status).decode(MachineStatus.self)
            print(status.problem ?? "machine \(status.name) is \(status.state)")
            return status.problem == nil ? 0 : 1
        } catch {
            print((error as? Failure)?.line ?? "\(error)")
            return 1
        }
    }

    /// `snabbvm ports`: what the NIC ports of a running machine do.
    static func ports(_ arguments: Arguments) throws -> Int32 {
        let client = try ControlClient(arguments)
        while true {
            let answer = try client.ask(.ports)
            let ports = try answer.decode([PortStatus].self)
            if arguments.json {
                print(arguments.watch ? answer.text : answer.prettyText)
            } else {
                // In place, where there is a screen.
                let home = arguments.watch && isatty(STDOUT_FILENO) == 1 ? "\u{1b}[H\u{1b}[J" : ""
                let none = "machine \(client.folders.name) has no NIC ports"
                print(home + (ports.isEmpty ? none : PortStatus.table(ports)))
            }
            fflush(nil)
            if !arguments.watch { return 0 }
            sleep(1)
        }
    }

    /// `snabbvm stop`: asks a machine to end, and waits until it has.
    static func stop(_ arguments: Arguments) throws -> Int32 {
        let answer = try ControlClient(arguments).ask(.stop(now: arguments.now))
        let end = try? answer.decode(ControlAnswer.End.self)
        if arguments.json {
            print(answer.text)
        } else if arguments.verbosity > .quiet {
            print(end?.ended ?? "")
        }
        return end?.code ?? 1
    }

    /// `snabbvm console`: becomes a tmux client, or shows one stream.
    static func console(_ arguments: Arguments) throws -> Int32 {
        let client = try ControlClient(arguments)
        if let stream = arguments.operand {
            try Relay.run(stream, of: client, escape: 0x1d)
            return 0
        }
        func failure(_ kind: FailureKind, _ cause: String, or remedy: String = "") -> Failure {
            Failure(kind, "show", "the console", cause, remedy: remedy + "name a stream: console serial")
        }
        guard let tmux = Files.findProgram("tmux") else {
            throw failure(.host, "tmux is not on PATH", or: "apt-get install tmux, or ")
        }
        if isatty(STDIN_FILENO) != 1 { throw failure(.usage, "this is no terminal") }
        let answer = try client.ask(.console)
        if let problem = try? answer.decode(ControlAnswer.Outcome.self).error { throw failure(.host, problem) }
        unsetenv("TMUX")
        try Command(program: tmux, arguments: client.folders.tmuxAttachment).become()
    }
}
