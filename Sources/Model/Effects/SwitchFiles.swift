import Values

extension Effect {
    /// Where the switches keep what outlives them when they are killed: their counters, and hugepages that nobody else
    /// would give back.
    package struct SwitchFiles: EffectValue {
        package var path: String

        package var shellText: String { "mkdir -p -m 700 \(path.shellQuoted)" }
        package func undoText(_ folders: MachinePaths) -> String? { "rm -r \(path.shellQuoted)" }
    }

    package static func switchFiles(path: String) -> Effect { .switchFiles(SwitchFiles(path: path)) }
}
