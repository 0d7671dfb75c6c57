import Model
import Values

/// A program that must run beside the machine: when it is ready, when it is started again, and how it ends.
package struct ServicePlan: Encodable, Equatable {
    package enum Role: String, Encodable {
        /// Plays the machine's network, or gives the machine its addresses there.
        case network
        /// Moves the frames of the port of the same name.
        case port
        /// Shows the machine in windows, as soon as somebody wants to look.
        case windows
    }

    /// Times here are in milliseconds.
    package enum Readiness: Encodable, Equatable {
        case atOnce
        /// When this socket is there, which QEMU connects to. A program that takes longer is killed.
        case socket(path: String, within: Int)
        /// When its output says so.
        case told
        /// When the command has ended, and left a daemon whose pid it printed.
        case daemon(within: Int)
    }

    package struct Restarts: Encodable, Equatable {
        /// As long as a service is on trial, a few failures in a row end the machine, or the service for good.
        package enum Trial: String, Encodable {
            case untilReady, untilSound, untilMachineIsUp, always
        }

        /// Before the first restart in a row, the second and so on, in milliseconds; none where there is no restart.
        package var pauses: [Int] = []
        package var trial: Trial
        /// Restarts in a row during the trial.
        package var most = 0
        /// From being ready on: a service that lasts so long is sound, and its failures are counted anew.
        package var soundAfter: Int?
    }

    /// As the ledger and the log call it.
    package var name: String
    package var role: Role
    /// For the readers of a plan.
    package var purpose: String
    package var command: Command
    package var readiness: Readiness
    package var restarts: Restarts
    /// Between being asked to end and being killed, in milliseconds; nil where nothing is lost by killing it at once.
    package var timeToEnd: Int?
    /// What a killed one leaves on the host.
    package var leaves: [Effect] = []
    /// What ends the machine if the service can't be had; its last words follow the cause. nil for what is dispensable.
    package var failure: Failure?
    /// What a machine is told to be like that has lost the service for good.
    package var loss = "the machine goes on without it"

    package var isDaemon: Bool { if case .daemon = readiness { true } else { false } }

    package func failure(_ words: String) -> Failure? {
        var failure = failure
        failure?.cause += words
        return failure
    }
}

/// The planners of services, one each.
extension ServicePlan {
    /// dnsmasq. A guest that has its address goes on without, so it ends the machine only at the start.
    static func addressServer(_ program: String, settings: String) -> ServicePlan {
        ServicePlan(
            name: "dnsmasq", role: .network, purpose: "What gives it its address",
            command: Command(program: program, arguments: ["--keep-in-foreground", "--conf-file=\(settings)"]),
            readiness: .atOnce,
            restarts: Restarts(
                pauses: [1000, 2000, 4000, 8000, 16000, 32000, 60000], trial: .untilSound, most: 3, soundAfter: 5000),
            failure: Failure(.network, "serve", "the machine's address", "dnsmasq ended: "))
    }

    /// passt serves one client, QEMU, and can't be had again: the guest's connections are in it.
    package static func passt(_ program: String, _ options: [String], socket: String, _ user: User?) -> ServicePlan {
        // As root it would change its user itself, and no longer be bound to its parent's life.
        let command = Command(
            program: program, arguments: ["--foreground", "--stderr", "--one-off", "--socket", socket] + options,
            user: user)
        return ServicePlan(
            name: "passt", role: .network, purpose: "What plays the network", command: command,
            readiness: .socket(path: socket, within: 2000), restarts: Restarts(trial: .untilReady),
            failure: Failure(.network, "start", "passt", "", remedy: "--user-net slirp does without it"),
            loss: "the machine has no network any more")
    }

    /// A port's switch, started again at once, then slower and slower.
    static func portSwitch(_ port: PortPlan, _ command: Command, attempts: Int) -> ServicePlan {
        // QEMU makes the socket, and leaves it there when it is killed.
        var leaves = [Effect.file(path: port.socket)]
        if case .interface(let name) = port.source, port.engine.engine.leavesProgram(port.driver) {
            leaves.append(.xdp(interface: name))
        }
        return ServicePlan(
            name: port.name, role: .port, purpose: "The switch of port \(port.name), \(port.source)", command: command,
            readiness: .told,
            restarts: Restarts(
                pauses: [0, 100, 200, 500, 1000, 2000, 5000], trial: .untilMachineIsUp, most: max(1, attempts) - 1,
                soundAfter: 10000),
            timeToEnd: 2000, leaves: leaves,
            failure: Failure(
                .port, "run the switch of port", "\(port.name) (\(port.source))", "",
                remedy: "see its log with --verbose, or try another engine="))
    }

    /// tmux. Its command ends when the server is up with all its windows, and prints the server's pid.
    static func windows(_ program: String, _ folders: MachinePaths, _ user: User?) -> ServicePlan {
        let socket = folders.tmuxSocket
        let words = ["-u", "-S", socket, "-f", folders.tmuxSettings, "start-server", ";", "display-message"]
        return ServicePlan(
            name: "tmux", role: .windows, purpose: "Beside it: the windows to look at it with",
            command: Command(
                program: program, arguments: words + ["-p", "#{pid}"], environment: ["SHELL": "/bin/sh"], user: user),
            readiness: .daemon(within: 20000),
            restarts: Restarts(pauses: [200, 400, 600], trial: .always, most: 3), timeToEnd: 3000,
            leaves: [.file(path: socket), .file(path: "\(socket).lock")])
    }
}
