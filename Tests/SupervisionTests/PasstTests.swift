import Foundation
import Testing

@testable import Supervision
@testable import System
@testable import TestSupport
@testable import Values

/// Whether passt can run here, by programs that behave as it does where it can't.
struct PasstTests {
    private let scratch = Scratch()

    private func works(_ script: String, _ loop: EventLoop) throws -> Bool {
        let program = scratch.file("passt", "#!/bin/sh\n\(script)\n")
        chmod(program, 0o755)
        defer { try? loop.endChildren() }
        return try Passt.works(program, as: nil, loop: loop)
    }

    @Test func whatEndsWellWithoutASocketDoesNotWork() throws {
        #expect(try !works("exit 0", EventLoop()))
        #expect(try !works("exit 1", EventLoop()))
    }

    @Test(.enabled(if: Parts.has("passt"), "passt is missing")) func passtItselfWorks() throws {
        let user = Parts.isRoot ? User(uid: 65534, gid: 65534) : nil
        #expect(try Passt.works(Parts.path(of: "passt"), as: user, loop: EventLoop()))
    }

    /// As a signal does.
    @Test func whatEndsTheLoopEndsTheTrial() throws {
        let loop = try EventLoop()
        loop.after(.milliseconds(20)) { throw Failure(.unexpected, "go on", "", "interrupted") }
        let failure = expectThrown(Failure.self) { try works("exec sleep 1000", loop) }
        #expect(failure?.cause == "interrupted")
    }
}
