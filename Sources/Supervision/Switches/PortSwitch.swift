import Host
import Model
import Planning
import System
import Values

/// One port of the machine: what its switch says and counts, and the settings that it may be given while it runs.
final class PortSwitch {
    private(set) var plan: PortPlan
    let stream: ConsoleStream
    /// nil where the machine has the device itself.
    private let service: Service?
    private let ledger: Ledger
    private let log: Log
    private var reader: (any SwitchReader)?

    private var state = PortStatus.State.starting
    private var restarts = 0
    private var problem: String?
    /// The settings that the switch was seen to take.
    private var inForce: PortSettings?

    /// What the earlier processes counted.
    private var past = PortCounters()
    private var current: PortCounters?
    private var sampled: (counters: PortCounters, at: ContinuousClock.Instant)?
    private var rates: PortStatus.Rates?

    /// One that moved frames for this long had no trouble starting.
    private static let soundTime = Duration.milliseconds(200)

    init(_ plan: PortPlan, _ folders: MachinePaths, _ service: Service?, ledger: Ledger, log: Log) {
        self.plan = plan
        self.service = service
        self.ledger = ledger
        self.log = log
        stream = ConsoleStream(plan.name)
        if service == nil { state = .passedThrough }
        service?.onStart = { [unowned self] in
            state = .starting
            reader = plan.engine.makeReader(for: plan, folders)
            log.verbose("\(plan.name): \(self.service?.plan.command.shellText ?? "")")
        }
        service?.onLine = { [unowned self] in read($0, $1) }
        service?.onEnd = { [unowned self] in ended($0) }
        service?.onLoss = { [unowned self] in
            restarts += 1
            let pause = $0.pause ?? .zero
            log.warning("\(line(of: $0)); it is started again" + (pause == .zero ? "" : " in \(pause)"))
        }
        let way = "\(plan.source) by \(plan.engine.rawValue) (\(plan.driver))"
        stream.receivedLine("port \(plan.name): \(way), \(plan.guestName) in the machine")
    }

    var hasConnected: Bool { service == nil || inForce != nil }

    private func note(_ line: String) {
        stream.receivedLine(line)
        log.verbose("\(plan.name): \(line)")
    }

    private func read(_ line: String, _ isError: Bool) -> String? {
        guard let (event, said) = reader?.read(line, isError: isError) else { return nil }
        let words = said?.isEmpty == false ? said : nil
        if let words { note(words) }
        if let event { take(event) }
        return words
    }

    private func take(_ event: SwitchEvent) {
        service?.noteChildren()
        switch event {
        case .connected:
            inForce = inForce ?? plan.settings
            state = .connected
            problem = nil
            service?.becameReady()
        case .up:
            state = .up
            service?.isSound(after: PortSwitch.soundTime)
        case .down: state = .connected
        case .disconnected: state = .starting
        case .applied:
            // Also when what was refused is taken back.
            if inForce != plan.settings { log.note("\(plan.name): changed as the file says") }
            inForce = plan.settings
        case .hugepageAdded:
            log.warning("\(plan.name): Snabb raised vm.nr_hugepages by 1, until the machine ends")
            do { try ledger.record([.hugepageAdded]) } catch { log.warning(error.line) }
        case .refused(let reason):
            log.warning("\(plan.name) stays as it is: \(reason)")
            // Else the next start of the switch would fail by it.
            if let inForce, inForce != plan.settings { write(inForce) }
        }
        note("\(event)")
    }

    private func ended(_ loss: Service.Loss) {
        past = total
        (current, sampled, rates) = (nil, nil, nil)
        state = .down
        problem = loss.cause
        stream.receivedLine(line(of: loss))
    }

    private func line(of loss: Service.Loss) -> String {
        let words = loss.words.isEmpty ? "" : ": \(loss.words)"
        return "the switch of port \(plan.name) ended (\(loss.status)\(words))"
    }

    /// A port that can't be had ends the start.
    func fail(_ cause: String) {
        if let service, let failure = service.plan.failure(cause) { service.onFailure(failure) }
    }

    /// Takes over what a running switch can take; the rest is for the next start.
    func apply(_ settings: PortSettings) {
        let changed = PortKey.table.filter { !$0.isSame(settings, plan.settings) }
        let isTaken = { [keys = plan.engine.engine.keys] (row: PortKey) in row.isLive && keys.contains(row.name) }
        for row in changed where !isTaken(row) {
            log.warning("\(plan.name): a new \(row.name) waits for the machine's next start")
        }
        guard changed.contains(where: isTaken) else { return }
        var next = plan.settings
        for row in PortKey.table where row.isLive { row.take(settings, &next) }
        write(next)
    }

    private func write(_ settings: PortSettings) {
        var next = plan
        next.settings = settings
        guard let content = next.engine.engine.settings(of: next) else { return }
        do throws(Errno) {
            try Files.replace(plan.settingsFile, Array("\(content.prettyText)\n".utf8), mode: 0o600)
            plan = next
        } catch {
            log.warning("\(plan.name): \(plan.settingsFile) can't be written: \(error)")
        }
    }

    private var total: PortCounters { (current ?? PortCounters()).combined(with: past, &+) }

    private func readCounters() {
        if let pid = service?.pid, let counters = reader?.counters(pid: pid) { current = counters }
    }

    func sample() {
        defer { if stream.isWatched, service != nil { stream.show(footer: status.footer) } }
        guard service?.pid != nil else { return }
        readCounters()
        let now = (counters: total, at: ContinuousClock.now)
        if let sampled {
            let seconds = max((now.at - sampled.at) / .seconds(1), 0.001)
            let since = now.counters.combined(with: sampled.counters) { $0 >= $1 ? $0 - $1 : 0 }
            let rate = { (count: UInt64, scale: Double) in UInt64((Double(count) * scale / seconds).rounded()) }
            rates = PortStatus.Rates(
                rxPackets: rate(since.rxPackets, 1), rxBits: rate(since.rxBytes, 8),
                txPackets: rate(since.txPackets, 1), txBits: rate(since.txBytes, 8))
        }
        sampled = now
    }

    var status: PortStatus {
        readCounters()
        return PortStatus(
            name: plan.name, guestName: plan.guestName, port: plan.source, engine: plan.engine, driver: plan.driver,
            mac: plan.mac, state: state, pid: service?.pid, restarts: restarts, cpu: plan.cpu, node: plan.node,
            settings: plan.settings, counters: service == nil ? nil : total,
            rates: service == nil ? nil : rates ?? PortStatus.Rates(), problem: problem)
    }
}
