import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import Supervision
@testable import System
@testable import TestSupport
@testable import Values

/// The life of a service, with real processes.
struct ServiceTests {
    private let scratch = Scratch()
    private let loop: EventLoop
    private let ledger: Ledger

    init() throws {
        loop = try EventLoop()
        ledger = try Ledger("\(scratch.path)/run/test.ledger")
    }

    private func plan(
        _ script: String, _ readiness: ServicePlan.Readiness = .atOnce,
        _ restarts: ServicePlan.Restarts = .init(trial: .untilReady), timeToEnd: Int? = nil
    ) -> ServicePlan {
        ServicePlan(
            name: "helper", role: .network, purpose: "A helper",
            command: Command(program: "/bin/sh", arguments: ["-c", script]), readiness: readiness, restarts: restarts,
            timeToEnd: timeToEnd, failure: Failure(.network, "start", "the helper", "it said: "))
    }

    /// The pids in the ledger.
    private var helpers: [Int32] {
        ledger.changes.compactMap { change in
            if case .process(let process) = change, process.name == "helper" { process.identity.pid } else { nil }
        }
    }

    private final class Seen {
        var losses: [Service.Loss] = []
        var failure: Failure?
        var lines: [String] = []
    }

    private func service(_ plan: ServicePlan) -> (Service, Seen) {
        let seen = Seen()
        let service = Service(plan, loop: loop, ledger: ledger, log: Log(verbosity: .quiet, json: false))
        service.onLoss = { seen.losses.append($0) }
        service.onFailure = { seen.failure = $0 }
        service.onLine = { line, _ in
            seen.lines.append(line)
            return line
        }
        return (service, seen)
    }

    private func run(within seconds: Double = 20, until done: () -> Bool) throws {
        var isLate = false
        let limit = loop.after(.seconds(seconds)) { isLate = true }
        try loop.run { isLate || done() }
        loop.cancel(limit)
        #expect(!isLate)
    }

    private func end(_ service: Service) throws {
        service.end()
        try run { service.isGone }
    }

    @Test func isStartedAgainWithGrowingPauses() throws {
        let restarts = ServicePlan.Restarts(pauses: [0, 20, 40], trial: .untilSound, most: 5, soundAfter: 60_000)
        let (service, seen) = service(plan("echo one; echo two >&2; exit 3", .atOnce, restarts))
        try service.start()
        try run { seen.failure != nil }
        #expect(
            seen.losses.map(\.pause) == [
                .zero, .milliseconds(20), .milliseconds(40), .milliseconds(40), .milliseconds(40),
            ])
        #expect(seen.losses.allSatisfy { $0.status == "exit code 3" && $0.line.hasPrefix("helper ended (") })
        // Two pipes have no common order.
        #expect(["it said: one / two", "it said: two / one"].contains(seen.failure?.cause))
        #expect(seen.lines.count == 12 && service.isGone)
    }

    @Test func aSoundOneIsStartedForEver() throws {
        let restarts = ServicePlan.Restarts(pauses: [1], trial: .untilSound, most: 0, soundAfter: 50)
        let (service, seen) = service(plan("sleep 0.1", .atOnce, restarts))
        try service.start()
        try run { seen.losses.count == 3 }
        #expect(seen.failure == nil)
        try end(service)
    }

    @Test func whatCannotBeStartedAgainIsOneMoreFailure() throws {
        let program = scratch.file("program", "#!/bin/sh\nrm \"$0\"\n")
        chmod(program, 0o755)
        var plan = plan("", .atOnce, .init(pauses: [1], trial: .untilMachineIsUp, most: 2))
        plan.command = Command(program: program, arguments: [])
        let (service, seen) = service(plan)
        try service.start()
        try run { seen.failure != nil }
        #expect(seen.losses.map(\.status) == ["exit code 0", "not started"])
    }

    @Test func isReadyWhenItsSocketIsThere() throws {
        let socket = "\(scratch.path)/socket"
        let readiness = ServicePlan.Readiness.socket(path: socket, within: 5000)
        let (service, seen) = service(plan("sleep 0.1; > \(socket); echo listening; exec sleep 1000", readiness))
        try service.start()
        #expect(!service.isSettled())
        try run { service.isSettled() }
        #expect(service.isReady)
        // Nobody can have it again, and the machine goes on without.
        kill(try #require(service.pid), SIGKILL)
        try run { !seen.losses.isEmpty }
        #expect(seen.losses[0].pause == nil && seen.losses[0].line == "helper ended (listening)" && seen.failure == nil)
    }

    @Test func whatIsNotReadyInTimeIsKilled() throws {
        let (service, seen) = service(plan("exec sleep 1000", .socket(path: "\(scratch.path)/none", within: 100)))
        try service.start()
        try run { service.isSettled() }
        #expect(!service.isReady && service.isGone)
        #expect(seen.failure?.cause == "it said: signal 9 (Killed)")
    }

    @Test func aDaemonIsKnownByThePidThatItsCommandPrints() throws {
        let daemon = "setsid sleep 1000 >/dev/null 2>&1 & echo $!"
        let (service, seen) = service(plan(daemon, .daemon(within: 5000), timeToEnd: 2000))
        try service.start()
        try run { service.isReady }
        #expect(service.pid.map { [$0] } == helpers)
        // A second start is no second daemon.
        var wasTold = false
        service.onReady = { wasTold = true }
        try service.start()
        #expect(wasTold && seen.losses.isEmpty)
        kill(try #require(service.pid), SIGTERM)
        try run { service.isGone }
    }

    @Test func aDaemonsCommandThatFailsDidNotStart() throws {
        var plan = plan("echo no >&2; exit 1", .daemon(within: 5000), .init(trial: .always))
        plan.failure = nil
        let (service, seen) = service(plan)
        try service.start()
        try run { !seen.losses.isEmpty }
        #expect(seen.losses[0].line == "helper did not start (no)" && seen.losses[0].pause == nil)
    }

    @Test func isAskedToEndBeforeItIsKilled() throws {
        let polite = "trap 'echo bye; exit 0' TERM; echo there; while :; do sleep 0.05; done"
        let (service, seen) = service(plan(polite, .atOnce, timeToEnd: 10_000))
        try service.start()
        try run { seen.lines == ["there"] }
        try end(service)
        #expect(seen.lines == ["there", "bye"] && service.status == .code(0) && seen.losses.isEmpty)
        let (deaf, heard) = self.service(plan("trap '' TERM; echo there; while :; do sleep 0.05; done", timeToEnd: 100))
        try deaf.start()
        try run { heard.lines == ["there"] }
        try end(deaf)
        #expect(deaf.status == .signal(SIGKILL))
    }

    /// Before anything is there to be left.
    @Test func theLedgerKnowsWhatItLeaves() throws {
        var plan = plan("sleep 0.2")
        plan.leaves = [.file(path: "\(scratch.path)/socket")]
        let (service, seen) = service(plan)
        try service.start()
        try run { !seen.losses.isEmpty }
        let changes = ledger.changes.drop { if case .folder = $0 { true } else { false } }
        #expect(changes.first == .file(path: "\(scratch.path)/socket"))
        #expect(helpers.count == 1)
    }
}
