import Glibc

/// The machine's NIC ports: their switches, their counters, and the file that may change their settings.
final class Ports {
    private let plan: Plan
    private let loop: EventLoop
    private let log: Log
    private let switches: [PortSwitch]
    private var watch: FileWatch?
    private var connectLimit: EventLoop.Timer?
    private var isEnding = false
    /// Before the machine is up, a port that can't be had ends the start.
    var onFailure: (Failure) -> Void = { _ in }

    private static let timeToConnect = Duration.seconds(30)
    private static let sampling = Duration.seconds(1)

    init(_ plan: Plan, loop: EventLoop, ledger: Ledger, log: Log) {
        self.plan = plan
        self.loop = loop
        self.log = log
        switches = plan.ports.map { PortSwitch($0, plan.folders, loop: loop, ledger: ledger, log: log) }
        for one in switches {
            one.retries = plan.switchRetries
            one.onFailure = { [unowned self] in onFailure($0) }
        }
    }

    var streams: [ConsoleStream] { switches.map(\.stream) }
    var status: [PortStatus] { switches.map(\.status) }

    func start() throws {
        if switches.isEmpty { return }
        for one in switches { try one.start() }
        connectLimit = loop.after(Ports.timeToConnect) { [unowned self] in
            guard let late = switches.first(where: { !$0.hasConnected }) else { return }
            onFailure(late.failure("it did not connect to the machine in \(Ports.timeToConnect.components.seconds) s"))
        }
        if let path = plan.portsFile {
            watch = FileWatch(path, loop: loop) { [unowned self] in reread(path) }
            if watch == nil { log.warning("\(path) can't be watched: changes in it will not be seen") }
        }
        sample()
    }

    /// QEMU goes on when all switches have connected: from here on a switch that fails is no reason to end the machine.
    func machineIsUp() {
        loop.cancel(connectLimit)
        for one in switches { one.machineIsUp() }
    }

    private func sample() {
        if isEnding { return }
        for one in switches { one.sample() }
        loop.after(Ports.sampling) { [unowned self] in sample() }
    }

    /// What the file says now, where a running switch can take it; the command line stays above it.
    private func reread(_ path: String) {
        let entries: [PortRequest]
        do throws(Failure) { entries = try PortsFile.read(path) } catch {
            return log.warning("\(error.line); the ports stay as they are")
        }
        log.note("\(path) has changed")
        for one in switches {
            let given = plan.portRequests.first { $0.source == one.plan.source }?.settings ?? PortSettings()
            let entry = entries.first { $0.source == one.plan.source }?.settings ?? PortSettings()
            one.apply(given.over(entry))
        }
        for entry in entries where !switches.contains(where: { $0.plan.source == entry.source }) {
            log.warning("\(entry.source) is new in \(path): the machine gets it when it starts again")
        }
    }

    /// Ends all switches, and waits until everything of them is gone.
    func end() throws {
        isEnding = true
        watch = nil
        for one in switches { one.end() }
        try loop.run { switches.allSatisfy(\.isGone) }
    }
}
