import CLinux
import Glibc
import Host
import Model
import Planning
import System
import Values

/// One run of a service. Snabb has a child of its own that cleans up after it: the run is over when both are gone, which
/// their pipes tell.
final class ServiceProcess {
    private(set) var pid: pid_t = 0
    private(set) var status: ExitStatus?
    var onLine: (_ line: String, _ isError: Bool) -> Void = { _, _ in }
    var onEnd: () throws -> Void = {}

    private let plan: ServicePlan
    private let loop: EventLoop
    private let ledger: Ledger?
    private var output: WordReader!
    private var errors: WordReader!
    /// Closed, it tells a program to end that wants time for it.
    private var lifeline: HeldDescriptor?
    private var children: [ProcessIdentity]?
    private var isOver = false

    private static let patience = Duration.seconds(2)
    /// Snabb's child is its first deed.
    private static let timeToFork = Duration.milliseconds(30)

    init(_ plan: ServicePlan, loop: EventLoop, ledger: Ledger?) throws {
        self.plan = plan
        self.loop = loop
        self.ledger = ledger
        let out = try Descriptor.pipe()
        let err = try Descriptor.pipe()
        var theirs = [out.writing, err.writing]
        defer { for descriptor in theirs { close(descriptor) } }
        if plan.timeToEnd != nil, !plan.isDaemon {
            let input = try Descriptor.pipe()
            lifeline = HeldDescriptor(Descriptor(input.writing))
            theirs.append(input.reading)
        }
        output = WordReader(out.reading, loop: loop) { [unowned self] in onLine($0, false) }
        errors = WordReader(err.reading, loop: loop) { [unowned self] in onLine($0, true) }
        pid = try plan.command.start(
            in: loop, input: theirs.count > 2 ? theirs[2] : nil, output: out.writing, error: err.writing,
            kind: plan.failure?.kind ?? .host
        ) { [self] in
            status = $0
            // What would clean up after it does so now; a moment later it is done for.
            loop.after(ServiceProcess.patience) { [self] in
                for child in children ?? [] where child.isAlive { kill(child.pid, SIGKILL) }
                try finish()
            }
            try finishWhenQuiet()
        }
        output.onEnd = { [self] in try finishWhenQuiet() }
        errors.onEnd = { [self] in try finishWhenQuiet() }
        // What a daemon's command starts is the service itself.
        if plan.isDaemon { return }
        if let identity = ProcessIdentity(pid: pid) { try ledger?.record([.process(name: plan.name, identity)]) }
        loop.after(ServiceProcess.timeToFork) { [weak self] in self?.noteChildren() }
    }

    /// What it has started by now, so that a release after the launcher's death ends it before a NIC is given back.
    func noteChildren() {
        guard children?.isEmpty ?? true else { return }
        let pids = (FileTree().line("/proc/\(pid)/task/\(pid)/children") ?? "").split(separator: " ")
        children = pids.compactMap { Int32($0) }.compactMap(ProcessIdentity.init)
        for child in children ?? [] { try? ledger?.record([.process(name: "\(plan.name)-supervisor", child)]) }
    }

    private func finishWhenQuiet() throws {
        if status != nil, output.hasEnded, errors.hasEnded { try finish() }
    }

    private func finish() throws {
        if isOver { return }
        isOver = true
        try output.finish()
        try errors.finish()
        try onEnd()
        // Whoever refers to this one lets go of it, and of its descriptors.
        onLine = { _, _ in }
        onEnd = {}
        (output.onEnd, errors.onEnd) = ({}, {})
        lifeline = nil
    }

    func signal(_ number: Int32) {
        lifeline = nil
        if status == nil { kill(pid, number) }
    }
}
