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
        try Failure.refuseStrangers(MachinePaths(arguments).base, option: "--run-dir")
        let running = ControlClient.machines(in: MachinePaths(arguments).base)
        if !arguments.nameIsGiven, running.count == 1 { arguments.name = running[0] }
        folders = MachinePaths(arguments)
    }

    /// The names that have a ledger.
    package static func machines(in base: String) -> [String] {
        Files.names(base).filter { $0.hasSuffix(".ledger") }.map { String($0.dropLast(".ledger".count)) }.sorted()
    }

    func connect() throws(Failure) -> Descriptor {
        do throws(Errno) { return try connect(to: folders.control) } catch {
            if error == .notPermitted { throw failure("its launcher is another user's", remedy: "run it as that user") }
            if error == .denied { throw failure(error.description, remedy: "run it as the user who started it") }
            switch Ledger.isHeld(folders.ledger) {
            case true?: throw failure("it is starting or ending")
            case false?:
                let release = "snabbvm release --name \(folders.name) gives back what it left"
                throw failure("its launcher was killed", remedy: release)
            case nil:
                let others = ControlClient.machines(in: folders.base)
                throw Failure(
                    .noMachine, "find machine", folders.name, "none of this name is running below \(folders.base)",
                    remedy: others.isEmpty ? nil : "there is \(others.joined(separator: ", ")): use --name")
            }
        }
    }

    /// Whoever listens there is root or this process's user.
    private func connect(to path: String) throws(Errno) -> Descriptor {
        let socket = Descriptor(try Errno.check { clinux_connect(path) })
        var user: uid_t = 0
        try Errno.check { clinux_peer_user(socket.raw, &user) }
        if !Files.isOurs(user) { throw .notPermitted }
        return socket
    }

    /// tmux runs what its server says.
    package func checkTmux() throws(Failure) {
        do throws(Errno) { _ = try connect(to: folders.tmuxSocket) } catch {
            throw Failure(
                .host, "show", "the console",
                error == .notPermitted ? "its tmux is another user's" : "its tmux does not answer: \(error)",
                remedy: "name a stream: console serial")
        }
    }

    private func failure(_ cause: String, remedy: String? = nil) -> Failure {
        Failure(.noMachine, "talk to machine", folders.name, cause, remedy: remedy)
    }

    package func ask(_ request: ControlRequest) throws(Failure) -> JSON {
        let socket = try connect()
        if (try? socket.writeAll(request.line)) != nil, let answer = try? socket.readAll(),
            let json = try? JSON(parsing: answer)
        {
            return json
        }
        throw failure("it ended without an answer")
    }
}
