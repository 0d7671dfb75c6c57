import Host
import Model
import Planning
import System
import Values

/// The machine's NIC ports: their switches, their counters, and the file that may change their settings.
final class Ports {
    private let plan: Plan
    private let loop: EventLoop
    private let log: Log
    private let switches: [PortSwitch]
    private var watch: FileWatch?
    private var connectLimit: EventLoop.Timer?
    private var isEnding = false

    private static let timeToConnect = Duration.seconds(30)
    private static let sampling = Duration.seconds(1)

    init(_ plan: Plan, _ services: [Service], loop: EventLoop, ledger: Ledger, log: Log) {
        self.plan = plan
        self.loop = loop
        self.log = log
        switches = plan.ports.map { port in
            let service = services.first { $0.plan.role == .port && $0.plan.name == port.name }
            return PortSwitch(port, plan.folders, service, ledger: ledger, log: log)
        }
    }

    var streams: [ConsoleStream] { switches.map(\.stream) }
    var status: [PortStatus] { switches.map(\.status) }

    func start() {
        if switches.isEmpty { return }
        connectLimit = loop.after(Ports.timeToConnect) { [unowned self] in
            let problem = "it did not connect to the machine in \(Ports.timeToConnect.components.seconds) s"
            switches.first { !$0.hasConnected }?.fail(problem)
        }
        if let path = plan.portsFile {
            watch = FileWatch(path, loop: loop) { [unowned self] in reread(path) }
            if watch == nil { log.warning("\(path) can't be watched: changes in it will not be seen") }
        }
        sample()
    }

    /// QEMU goes on when all switches have connected: from here on a switch that fails is no reason to end the machine.
    func machineIsUp() { loop.cancel(connectLimit) }

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

    func end() {
        isEnding = true
        watch = nil
    }
}
