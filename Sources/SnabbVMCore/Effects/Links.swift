extension Effect {
    /// What `ip -batch` is told, line for line, and the effects that this has, each with an undoing of its own.
    struct Links: EffectValue {
        var lines: [String]
        var program: String
        var undoneBy: [Effect]

        var shellText: String { "\(program) -batch - <<'.'\n\(lines.text)." }

        func undoText(_ folders: MachinePaths) -> String? {
            let lines = undoneBy.reversed().flatMap { (effect) -> [String] in
                switch effect {
                case .tap(let tap): ["link delete dev \(tap.name)"]
                case .bridged(let bridged): bridged.state.returning(from: bridged.bridge)
                default: []
                }
            }
            return "\(program) -force -batch - <<'.'\n\(lines.text)."
        }
    }

    static func links(_ lines: [String], program: String, undoneBy: [Effect]) -> Effect {
        .links(Links(lines: lines, program: program, undoneBy: undoneBy))
    }
}
