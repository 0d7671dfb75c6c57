import Model
import Supervision

/// `snabbvm relay`: what a tmux window runs, one stream of the machine on the window's terminal.
enum RelayCommand {
    static func perform(_ arguments: Arguments) throws -> Int32 {
        let stream = arguments.operand ?? StreamName.serial.rawValue
        try Relay.run(stream, of: try ControlClient(arguments), escape: nil)
        return 0
    }
}
