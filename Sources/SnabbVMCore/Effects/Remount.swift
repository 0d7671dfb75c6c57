extension Effect {
    /// Makes a folder writable that is mounted for reading only.
    struct Remount: EffectValue {
        var path: String

        var shellText: String { "mount -o remount,rw \(path.shellQuoted)" }
        func undoText(_ folders: MachinePaths) -> String? { "mount -o remount,ro \(path.shellQuoted)" }
    }

    static func remount(path: String) -> Effect { .remount(Remount(path: path)) }
}
