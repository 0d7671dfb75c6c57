import Glibc
import Model
import Supervision
import Values

/// `snabbvm ports`: what the NIC ports of a running machine do.
enum PortsCommand {
    static func perform(_ arguments: Arguments) throws -> Int32 {
        let client = try ControlClient(arguments)
        while true {
            let answer = try client.ask(.ports)
            let ports = try answer.decode([PortStatus].self)
            if arguments.json {
                print(arguments.watch ? answer.text : answer.prettyText)
            } else {
                // In place, where there is a screen.
                let home = arguments.watch && isatty(STDOUT_FILENO) == 1 ? "\u{1b}[H\u{1b}[J" : ""
                print(
                    home + (ports.isEmpty ? "machine \(client.folders.name) has no NIC ports" : PortStatus.table(ports))
                )
            }
            fflush(nil)
            if !arguments.watch { return 0 }
            sleep(1)
        }
    }
}
