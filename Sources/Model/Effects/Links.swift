import Values

extension Effect {
    /// What `ip -batch` is told, line for line, and the effects that this has, each with an undoing of its own.
    package struct Links: EffectValue {
        package var lines: [String]
        package var program: String
        package var undoneBy: [Effect]

        package var shellText: String { "\(program) -batch - <<'.'\n\(lines.text)." }

        package func undoText(_ folders: MachinePaths) -> String? {
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

    package static func links(_ lines: [String], program: String, undoneBy: [Effect]) -> Effect {
        .links(Links(lines: lines, program: program, undoneBy: undoneBy))
    }
}
