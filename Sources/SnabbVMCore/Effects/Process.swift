extension Effect {
    /// A process of ours. It can only be named once it runs; until then it is bound to the launcher's life.
    struct Process: UnplannedEffect {
        var name: String
        var identity: ProcessIdentity

        private enum CodingKeys: String, CodingKey {
            case name
            case identity = "_1"
        }
    }

    static func process(name: String, _ identity: ProcessIdentity) -> Effect {
        .process(Process(name: name, identity: identity))
    }
}
