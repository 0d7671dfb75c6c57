import Values

/// A program that must run beside the machine: when it is ready, when it is started again, and how it ends.
package struct ServicePlan: Codable, Equatable {
    package enum Role: String, Codable {
        /// Plays the machine's network, or gives the machine its addresses there.
        case network
        /// Moves the frames of the port of the same name.
        case port
        /// Shows the machine in windows, as soon as somebody wants to look.
        case windows
    }

    /// Times here are in milliseconds.
    package enum Readiness: Codable, Equatable {
        case atOnce
        /// When this socket is there, which QEMU connects to. A program that takes longer is killed.
        case socket(path: String, within: Int)
        /// When its output says so.
        case told
        /// When the command has ended, and left a daemon whose pid it printed.
        case daemon(within: Int)
    }

    package struct Restarts: Codable, Equatable {
        /// As long as a service is on trial, a few failures in a row end the machine, or the service for good.
        package enum Trial: String, Codable {
            case untilReady, untilSound, untilMachineIsUp, always
        }

        /// Before the first restart in a row, the second and so on, in milliseconds; none where there is no restart.
        package var pauses: [Int] = []
        package var trial: Trial
        /// Restarts in a row during the trial.
        package var most = 0
        /// From being ready on: a service that lasts so long is sound, and its failures are counted anew.
        package var soundAfter: Int?

        package init(pauses: [Int] = [], trial: Trial, most: Int = 0, soundAfter: Int? = nil) {
            self.pauses = pauses
            self.trial = trial
            self.most = most
            self.soundAfter = soundAfter
        }
    }

    /// As the ledger and the log call it.
    package var name: String
    package var role: Role
    /// For the readers of a plan.
    package var purpose: String
    package var command: Command
    package var readiness: Readiness
    package var restarts: Restarts
    /// Between being asked to end and being killed, in milliseconds; nil where nothing is lost by killing it at once.
    package var timeToEnd: Int?
    /// What a killed one leaves on the host.
    package var leaves: [Effect] = []
    /// What ends the machine if the service can't be had; its last words follow the cause. nil for what is dispensable.
    package var failure: Failure?
    /// What a machine is told to be like that has lost the service for good.
    package var loss = "the machine goes on without it"

    package var isDaemon: Bool { if case .daemon = readiness { true } else { false } }

    package init(
        name: String, role: Role, purpose: String, command: Command, readiness: Readiness, restarts: Restarts,
        timeToEnd: Int? = nil, leaves: [Effect] = [], failure: Failure? = nil,
        loss: String = "the machine goes on without it"
    ) {
        self.name = name
        self.role = role
        self.purpose = purpose
        self.command = command
        self.readiness = readiness
        self.restarts = restarts
        self.timeToEnd = timeToEnd
        self.leaves = leaves
        self.failure = failure
        self.loss = loss
    }

    package func failure(_ words: String) -> Failure? {
        var failure = failure
        failure?.cause += words
        return failure
    }
}
