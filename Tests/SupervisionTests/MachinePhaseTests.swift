import Testing

@testable import Images
@testable import Model
@testable import Planning
@testable import Supervision
@testable import System
@testable import TestSupport
@testable import Values

struct MachinePhaseTests {
    private let wrong = Failure(.checksum, "boot", "image", "it is another")
    private let broken = Failure(.port, "run", "the switch", "it ended")

    /// A step in a machine's life, and where it leads.
    private func phase(_ steps: (inout MachinePhase) -> Void) -> MachinePhase {
        var phase = MachinePhase.running
        steps(&phase)
        return phase
    }

    @Test func aStopIsAskedForOnceAndThenInsistedOn() {
        var phase = MachinePhase.running
        #expect(phase.stop(now: false, insists: true) == .wait && phase == .stopping)
        #expect(phase.stop(now: false, insists: false) == .nothing && phase == .stopping)
        #expect(phase.stop(now: false, insists: true) == .quit && phase == .quitting(.stopped))
        #expect(phase.stop(now: false, insists: false) == .nothing)
    }

    @Test func nowIsNow() {
        var phase = MachinePhase.running
        #expect(phase.stop(now: true, insists: false) == .quit && phase == .quitting(.stopped))
        phase = .stopping
        #expect(phase.stop(now: true, insists: false) == .quit && phase.ending == .stopped)
    }

    @Test func aGuestThatPowersOffWhenAskedWasStopped() {
        let phase = phase {
            _ = $0.stop(now: false, insists: false)
            $0.shutDown("guest-shutdown")
        }
        #expect(phase.ending == .stopped && phase.isStopping)
    }

    @Test func aGuestThatPowersOffByItselfLeaves() {
        let phase = phase { $0.shutDown("guest-shutdown") }
        #expect(phase == .leaving(reason: "guest-shutdown") && phase.ending == nil && !phase.isStopping)
        var late = phase
        #expect(late.stop(now: false, insists: false) == .wait && late.ending == .stopped)
    }

    @Test func whoIsCutOffWasNotStopped() {
        let phase = phase {
            _ = $0.stop(now: false, insists: false)
            $0.end(.cutOff)
            $0.end(.stopped)
            $0.shutDown("host-qmp-quit")
        }
        #expect(phase.ending == .cutOff)
    }

    @Test func theFirstFailureCounts() {
        let phase = phase {
            _ = $0.stop(now: false, insists: false)
            $0.end(.failed(broken))
            $0.end(.failed(wrong))
            $0.end(.cutOff)
        }
        #expect(phase.ending == .failed(broken))
    }

    /// Whatever ends it then.
    @Test func aWrongImageIsHowItEnds() {
        var paused = phase { $0.pause(for: wrong) }
        #expect(paused == .paused(wrong) && paused.ending == .failed(wrong) && !paused.isStopping)
        paused.shutDown("host-signal")
        #expect(paused.ending == .failed(wrong))
        // It hears no button.
        #expect(paused.stop(now: false, insists: false) == .quit && paused == .quitting(.failed(wrong)))
        let late = phase {
            _ = $0.stop(now: true, insists: false)
            $0.pause(for: wrong)
        }
        #expect(late == .quitting(.failed(wrong)))
        let stopping = phase {
            _ = $0.stop(now: false, insists: false)
            $0.pause(for: wrong)
            $0.end(.cutOff)
        }
        #expect(stopping == .quitting(.failed(wrong)))
    }
}
