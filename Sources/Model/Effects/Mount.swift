import Values

extension Effect {
    /// A file system, mounted if nothing is mounted there. Other machines may use it as well.
    package struct Mount: EffectValue {
        /// The name of the device that our mounts have, so that those of others are left alone.
        package static let device = "snabbvm"

        package var path: String
        package var kind: String?

        package var shellText: String {
            let make = "mkdir -p \(path) && mount -t \(kind ?? "auto") \(Mount.device) \(path)"
            return "mountpoint -q \(path) || { \(make); }"
        }

        package func undoText(_ folders: MachinePaths) -> String? { "umount \(path.shellQuoted)" }
    }

    package static func mount(path: String, kind: String? = nil) -> Effect { .mount(Mount(path: path, kind: kind)) }
}
