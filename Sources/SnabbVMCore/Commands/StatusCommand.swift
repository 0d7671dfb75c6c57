import Model
import Supervision
import Values

/// `snabbvm status`: how a running machine is.
enum StatusCommand {
    static func perform(_ arguments: Arguments) throws -> Int32 {
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
}
