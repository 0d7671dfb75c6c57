extension Effect {
    /// Where the switches keep what outlives them when they are killed: their counters, and hugepages that nobody else
    /// would give back.
    struct SwitchFiles: EffectValue {
        var path: String

        var shellText: String { "mkdir -p -m 700 \(path.shellQuoted)" }
        func undoText(_ folders: MachinePaths) -> String? { "rm -r \(path.shellQuoted)" }
    }

    static func switchFiles(path: String) -> Effect { .switchFiles(SwitchFiles(path: path)) }
}
