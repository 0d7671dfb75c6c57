import CLinux
import Foundation
import Testing

@testable import Model
@testable import Supervision
@testable import System
@testable import TestSupport
@testable import Values

/// `snabbvm console serial` at a launcher's control socket, and behind that a guest that reads when it likes.
struct RelayTests {
    private let scratch = Scratch()

    @Test func whatIsPastedWaitsUntilTheGuestTakesIt() throws {
        let loop = try EventLoop()
        let run = scratch.folder("run")
        let server = try ControlServer(scratch.folder("run/vm") + "/control", loop: loop)
        let serial = try Descriptor.socketPair()
        let stream = ConsoleStream("serial", input: try Channel(Descriptor(serial.ours), loop: loop))
        server.onRequest = { request, connection in
            if case .attach = request { return connection.attach(to: stream) }
            connection.answer(ControlAnswer.Streams(streams: ["serial"]))
        }
        // More than either side keeps for another that does not read.
        let pasted = (0..<3 << 20).map { UInt8(truncatingIfNeeded: $0 / 7) & 0x0f }
        let input = try Descriptor.open(scratch.file("paste", pasted), O_RDONLY)
        let pid = try spawn(
            Parts.snabbvm, ["console", "serial", "--name", "vm", "--run-dir", run], environment: [:], input: input.raw,
            output: temporaryFile(), errors: temporaryFile())
        var ending: String?
        loop.onExit(of: pid) { ending = "\($0)" }
        var isTime = false
        loop.after(.seconds(1)) { isTime = true }
        try loop.run { isTime || ending != nil }
        #expect(ending == nil)

        var taken: [UInt8] = []
        let guest = try Channel(Descriptor(serial.theirs), loop: loop)
        guest.onBytes = { taken += $0 }
        loop.after(.seconds(60)) { throw Failure(.unexpected, "see", "what was pasted", "it took too long") }
        try loop.run { taken.count == pasted.count || ending != nil }
        let isWhole = taken == pasted
        #expect(isWhole && ending == nil)
        // The end of the machine is that of the relay.
        server.close()
        try loop.run { ending != nil }
        #expect(ending == "exit code 0")
    }

    /// What is typed in the same breath as the stream is asked for, lines and all, is for the guest.
    @Test func whatComesWithTheRequestIsTyped() throws {
        let loop = try EventLoop()
        let control = scratch.folder("run/vm") + "/control"
        let server = try ControlServer(control, loop: loop)
        let serial = try Descriptor.socketPair()
        let stream = ConsoleStream("serial", input: try Channel(Descriptor(serial.ours), loop: loop))
        server.onRequest = { _, connection in connection.attach(to: stream) }
        let socket = Descriptor(try Errno.check { clinux_connect(control) })
        let typed = Array("one\ntwo\n".utf8)
        try socket.writeAll(ControlRequest.attach(stream: "serial").line + typed)
        let guest = Descriptor(serial.theirs)
        var taken: [UInt8] = []
        var isTime = false
        loop.after(.seconds(30)) { isTime = true }
        loop.watch(guest.raw, for: .readable) { _ in taken += try guest.read(atMost: 64) }
        try loop.run { taken.count == typed.count || isTime }
        #expect(taken == typed)
        withExtendedLifetime((server, stream)) {}
    }
}
