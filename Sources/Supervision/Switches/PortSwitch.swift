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
    private let engine: any PortEngine
    private let ledger: Ledger
    private let log: Log
    private var reader: (any SwitchReader)?

    private var state = PortStatus.State.starting
    private(set) var hasConnected = false
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
        engine = plan.engine.engine
        stream = ConsoleStream(plan.name)
        if service == nil {
            state = .passedThrough
            hasConnected = true
        }
        service?.onStart = { [unowned self] in
            state = .starting
            reader = plan.engine.makeReader(for: plan, folders)
            log.verbose("\(plan.name): \(self.service?.plan.command.shellText ?? "")")
        }
        service?.onLine = { [unowned self] in read($0, $1) }
        service?.onLoss = { [unowned self] in lost($0) }
        tell(
            "port \(plan.name): \(plan.source) by \(plan.engine.rawValue) (\(plan.driver)), \(plan.guestName) in the machine"
        )
    }

    private func tell(_ line: String) { stream.receivedLine(line) }

    // MARK: - Its switch

    private func read(_ line: String, _ isError: Bool) -> String? {
        guard let (event, said) = reader?.read(line, isError: isError) else { return nil }
        let words = said?.isEmpty == false ? said : nil
        if let words {
            tell(words)
            log.verbose("\(plan.name): \(words)")
        }
        if let event { take(event) }
        return words
    }

    private func take(_ event: SwitchEvent) {
        service?.noteChildren()
        switch event {
        case .connected:
            hasConnected = true
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
        tell("\(event)")
        log.verbose("\(plan.name): \(event)")
    }

    private func lost(_ loss: Service.Loss) {
        past = total
        (current, sampled, rates) = (nil, nil, nil)
        state = .down
        restarts += 1
        problem = loss.cause
        let words = loss.words.isEmpty ? "" : ": \(loss.words)"
        let line = "the switch of port \(plan.name) ended (\(loss.status)\(words))"
        tell(line)
        let pause = loss.pause ?? .zero
        log.warning(pause == .zero ? "\(line); it is started again" : "\(line); it is started again in \(pause)")
    }

    func failure(_ cause: String) -> Failure? { service?.plan.failure(cause) }

    // MARK: - Settings

    /// Takes over what a running switch can take; the rest is for the next start.
    func apply(_ settings: PortSettings) {
        let changed = PortKey.table.filter { !$0.isSame(settings, plan.settings) }
        if changed.isEmpty { return }
        for row in changed where !row.isLive || !engine.keys.contains(row.name) {
            log.warning("\(plan.name): a new \(row.name) waits for the machine's next start")
        }
        guard changed.contains(where: { $0.isLive && engine.keys.contains($0.name) }) else { return }
        var next = plan
        for row in PortKey.table where row.isLive { row.take(settings, &next.settings) }
        write(next.settings)
    }

    private func write(_ settings: PortSettings) {
        var next = plan
        next.settings = settings
        guard let content = engine.settings(of: next) else { return }
        do throws(Errno) {
            try Files.replace(plan.settingsFile, Array("\(content.prettyText)\n".utf8), mode: 0o600)
            plan = next
        } catch {
            log.warning("\(plan.name): \(plan.settingsFile) can't be written: \(error)")
        }
    }

    // MARK: - Counters

    private var total: PortCounters { (current ?? PortCounters()).combined(with: past, &+) }

    /// Reads the counters, and what has come since the last time.
    func sample() {
        guard let pid = service?.pid else { return show() }
        if let counters = reader?.counters(pid: pid) { current = counters }
        let now = (counters: total, at: ContinuousClock.now)
        if let sampled {
            let parts = (now.at - sampled.at).components
            let seconds = Double(parts.seconds) + Double(parts.attoseconds) / 1e18
            let since = now.counters.combined(with: sampled.counters) { $0 >= $1 ? $0 - $1 : 0 }
            let rate = { (count: UInt64, scale: Double) in
                UInt64((Double(count) * scale / max(seconds, 0.001)).rounded())
            }
            rates = PortStatus.Rates(
                rxPackets: rate(since.rxPackets, 1), rxBits: rate(since.rxBytes, 8),
                txPackets: rate(since.txPackets, 1), txBits: rate(since.txBytes, 8))
        }
        sampled = now
        show()
    }

    private func show() {
        if stream.isWatched, service != nil { stream.show(footer: status.footer) }
    }

    var status: PortStatus {
        if let pid = service?.pid, let counters = reader?.counters(pid: pid) { current = counters }
        return PortStatus(
            name: plan.name, guestName: plan.guestName, port: plan.source, engine: plan.engine, driver: plan.driver,
            mac: plan.mac, state: state, pid: service?.pid, restarts: restarts, cpu: plan.cpu, node: plan.node,
            settings: plan.settings, counters: service == nil ? nil : total,
            rates: service == nil ? nil : rates ?? PortStatus.Rates(), problem: problem)
    }
}
