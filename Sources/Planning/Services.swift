import Model
import Values

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
    static func portSwitch(
        _ port: PortPlan, _ command: Command, attempts: Int, leavesProgram: Bool
    ) -> ServicePlan {
        // QEMU makes the socket, and leaves it there when it is killed.
        var leaves = [Effect.file(path: port.socket)]
        if case .interface(let name) = port.source, leavesProgram { leaves.append(.xdp(interface: name)) }
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
