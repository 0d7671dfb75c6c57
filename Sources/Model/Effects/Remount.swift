import Values

extension Effect {
    /// Makes a folder writable that is mounted for reading only.
    package struct Remount: EffectValue {
        package var path: String

        package var shellText: String { "mount -o remount,rw \(path.shellQuoted)" }
        package func undoText(_ folders: MachinePaths) -> String? { "mount -o remount,ro \(path.shellQuoted)" }
    }

    package static func remount(path: String) -> Effect { .remount(Remount(path: path)) }
}
