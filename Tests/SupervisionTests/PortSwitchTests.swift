import Foundation
import Testing

@testable import Host
@testable import Model
@testable import Planning
@testable import Supervision
@testable import System
@testable import TestSupport
@testable import Values

struct PortSwitchTests {
    private let scratch = Scratch()

    /// Also the failure that ends the start, which is no reason to start the switch again.
    @Test func thePortsOwnStreamTellsEachFailure() throws {
        let loop = try EventLoop()
        let ledger = try Ledger("\(scratch.path)/run/vm.ledger")
        let log = Log(verbosity: .quiet, json: false)
        let port = PortPlan(
            name: "uplink", guestName: "eth1", source: .tap("tap7"), engine: .snabb, driver: "tap",
            settings: PortSettings(), socket: "\(scratch.path)/socket", settingsFile: "\(scratch.path)/settings")
        let command = Command(program: "/bin/sh", arguments: ["-c", "echo no such tap >&2; exit 1"])
        let service = Service(
            .portSwitch(port, command, attempts: 2), loop: loop, ledger: ledger, log: log)
        var failure: Failure?
        service.onFailure = { failure = $0 }
        let folders = MachinePaths(absolute: Arguments(), uid: 0, runtimeFolder: "/run/user/0")
        let one = PortSwitch(port, folders, service, ledger: ledger, log: log)
        let window = try Descriptor.pipe()
        let reading = Descriptor(window.reading)
        one.stream.add(Outlet(window.writing, loop: loop) {})
        try service.start()
        loop.after(.seconds(20)) { throw Failure(.unexpected, "see", "the failure", "it took too long") }
        try loop.run { failure != nil }
        close(window.writing)
        let shown = String(decoding: try reading.readAll(), as: UTF8.self)
        let ended = "the switch of port uplink ended (exit code 1: no such tap)"
        #expect(
            shown.split(separator: "\r\n").map(String.init) == [
                "port uplink: tap:tap7 by snabb (tap), eth1 in the machine", "no such tap", ended, "no such tap", ended,
            ])
        #expect(one.status.state == .down && one.status.problem == "no such tap" && one.status.restarts == 1)
        #expect(failure?.kind == .port && failure?.cause == "no such tap")
    }
}
