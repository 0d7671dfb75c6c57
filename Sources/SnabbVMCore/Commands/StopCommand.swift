import Model
import Supervision
import Values

/// `snabbvm stop`: asks a machine to end, and waits until it has.
enum StopCommand {
    static func perform(_ arguments: Arguments) throws -> Int32 {
        let answer = try ControlClient(arguments).ask(.stop(now: arguments.now))
        let end = try? answer.decode(ControlAnswer.End.self)
        if arguments.json {
            print(answer.text)
        } else if arguments.verbosity > .quiet {
            print(end?.ended ?? "")
        }
        return end?.code ?? 1
    }
}
