import CLinux
import Glibc
import Host
import Model
import System
import Values

/// The other end: how a command finds a running machine and asks it something.
package struct ControlClient {
    package let folders: MachinePaths

    /// The machine that is meant: the named one, or the only one there is.
    package init(_ arguments: Arguments) throws(Failure) {
        var arguments = arguments
        let folders = MachinePaths(arguments, uid: geteuid())
        let running = ControlClient.machines(in: folders.base)
        if !arguments.nameIsGiven, running.count == 1 { arguments.name = running[0] }
        self.folders = MachinePaths(arguments, uid: geteuid())
    }

    /// The names that have a ledger.
    package static func machines(in base: String) -> [String] {
        Files.names(base).filter { $0.hasSuffix(".ledger") }.map { String($0.dropLast(".ledger".count)) }.sorted()
    }

    func connect() throws(Failure) -> Descriptor {
        do throws(Errno) {
            return Descriptor(try Errno.check { clinux_connect(folders.control) })
        } catch {
            throw explain(error)
        }
    }

    private func explain(_ error: Errno) -> Failure {
        let name = folders.name
        if error == .denied {
            return Failure(.noMachine, "talk to machine", name, error, remedy: "run it as the user who started it")
        }
        switch Ledger.isHeld(folders.ledger) {
        case true?: return Failure(.noMachine, "talk to machine", name, "it is starting or ending")
        case false?:
            return Failure(
                .noMachine, "talk to machine", name, "its launcher was killed",
                remedy: "snabbvm release --name \(name) gives back what it left")
        case nil:
            let others = ControlClient.machines(in: folders.base)
            return Failure(
                .noMachine, "find machine", name, "none of this name is running below \(folders.base)",
                remedy: others.isEmpty ? nil : "there is \(others.joined(separator: ", ")): use --name")
        }
    }

    /// Asks, and waits for the answer.
    package func ask(_ request: ControlRequest) throws(Failure) -> JSON {
        let socket = try connect()
        do throws(Errno) {
            try socket.writeAll(request.line)
            let answer = try socket.readAll()
            if let json = try? JSON(parsing: answer) { return json }
            throw Errno(code: EPIPE)
        } catch {
            throw Failure(.noMachine, "talk to machine", folders.name, "it ended without an answer")
        }
    }
}
