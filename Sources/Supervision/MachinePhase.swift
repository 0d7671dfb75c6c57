import Values

package enum Ending: Equatable {
    case poweredOff
    case stopped
    /// The guest did not power off in the time it had.
    case cutOff
    case failed(Failure)
}

/// Where a machine is in its life. Every change from one phase to another is decided here.
enum MachinePhase: Equatable {
    case running
    /// For good, since its image is not the one that was asked for; its owner can still look at it.
    case paused(Failure)
    /// The guest was asked to power off, and has some time for it.
    case stopping
    /// QEMU says that it ends by itself, and why.
    case leaving(reason: String)
    /// QEMU is on its way out, and this is how the machine ended.
    case quitting(Ending)

    /// What a request to stop the machine comes to.
    enum Order: Equatable {
        case nothing
        case quit
        /// It has time to power off, by the power button if that is still of use.
        case wait
    }

    /// The power button, and time to react to it; at once when it is said now, or by who insists when it was asked before.
    mutating func stop(now: Bool, insists: Bool) -> Order {
        var now = now
        switch self {
        // A paused machine hears no button.
        case .paused: now = true
        case .stopping, .quitting: if !now, !insists { return .nothing } else { now = true }
        case .running, .leaving: break
        }
        if !now, self == .running { self = .stopping } else { end(.stopped) }
        return now ? .quit : .wait
    }

    mutating func pause(for failure: Failure) {
        if case .quitting = self { end(.failed(failure)) } else { self = .paused(failure) }
    }

    /// QEMU's own word that it ends.
    mutating func shutDown(_ reason: String) {
        switch self {
        case .running: self = .leaving(reason: reason)
        case .stopping: self = .quitting(.stopped)
        case .paused, .leaving, .quitting: break
        }
    }

    /// From here on QEMU is to end. Of several reasons the first failure counts, and then that the guest was cut off.
    mutating func end(_ ending: Ending) {
        switch (self, ending) {
        case (.quitting(.failed), _), (.quitting(.cutOff), .stopped): break
        case (.paused(let failure), .stopped), (.paused(let failure), .cutOff): self = .quitting(.failed(failure))
        default: self = .quitting(ending)
        }
    }

    /// How the machine ended whose QEMU did; nil where QEMU has to say why.
    var ending: Ending? {
        switch self {
        case .running, .leaving: nil
        case .paused(let failure): .failed(failure)
        case .stopping: .stopped
        case .quitting(let ending): ending
        }
    }

    var isStopping: Bool { if case .quitting = self { true } else { self == .stopping } }
}
