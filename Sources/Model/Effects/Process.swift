import Values

extension Effect {
    /// A process of ours. It can only be named once it runs; until then it is bound to the launcher's life.
    package struct Process: UnplannedEffect {
        package var name: String
        package var identity: ProcessIdentity

        private enum CodingKeys: String, CodingKey {
            case name
            case identity = "_1"
        }
    }

    package static func process(name: String, _ identity: ProcessIdentity) -> Effect {
        .process(Process(name: name, identity: identity))
    }
}
