extension Effect {
    /// A setting of the kernel, as it was before and as we make it, in this network namespace.
    struct Setting: EffectValue {
        var path: String
        var value: String
        var before: String
        var namespace: UInt64

        var shellText: String { "echo \(value) > \(path.shellQuoted)" }
        func undoText(_ folders: MachinePaths) -> String? { "echo \(before) > \(path.shellQuoted)" }
    }

    static func setting(path: String, value: String, before: String, namespace: UInt64) -> Effect {
        .setting(Setting(path: path, value: value, before: before, namespace: namespace))
    }
}
