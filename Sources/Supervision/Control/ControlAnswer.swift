/// The answers that are no status; those are `MachineStatus` and a list of `PortStatus`.
package enum ControlAnswer {
    /// Of what has nothing to tell, or was refused.
    package struct Outcome: Codable, Equatable {
        package var error: String?
    }

    package struct Streams: Codable, Equatable {
        package var streams: [String]
    }

    /// How the machine ended that was asked to stop.
    package struct End: Codable, Equatable {
        package var ended: String
        package var code: Int32
    }

    /// Where the guest's SSH server is, or why that is not known yet or never will be.
    package struct SSH: Codable, Equatable {
        package var host: String?
        package var port: Int?
        package var knownHosts: String?
        package var waiting: String?
        package var error: String?
    }
}
