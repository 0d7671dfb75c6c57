import Values

extension Effect {
    /// A setting of the kernel, as it was before and as we make it, in this network namespace.
    package struct Setting: EffectValue {
        package var path: String
        package var value: String
        package var before: String
        package var namespace: UInt64

        package var shellText: String { "echo \(value) > \(path.shellQuoted)" }
        package func undoText(_ folders: MachinePaths) -> String? { "echo \(before) > \(path.shellQuoted)" }
    }

    package static func setting(path: String, value: String, before: String, namespace: UInt64) -> Effect {
        .setting(Setting(path: path, value: value, before: before, namespace: namespace))
    }
}
