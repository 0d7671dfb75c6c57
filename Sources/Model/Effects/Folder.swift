import Values

extension Effect {
    /// A folder where none was, and those above it. It goes only when it is empty: what others put there is theirs.
    package struct Folder: EffectValue {
        package var path: String
        /// 0755, if nothing else is said.
        package var mode: UInt16?
        /// It may be there already, and others may have things in it.
        package var isShared: Bool
        package var owner: User?

        package var shellText: String {
            let make = "mkdir -p -m \(String(mode ?? 0o755, radix: 8)) \(path.shellQuoted)"
            return owner.map { "\(make) && chown \($0.uid):\($0.gid) \(path.shellQuoted)" } ?? make
        }

        package func undoText(_ folders: MachinePaths) -> String? {
            path == folders.keptFolder ? nil : "rmdir \(path.shellQuoted)" + (isShared ? " 2>/dev/null || true" : "")
        }
    }

    package static func folder(path: String, mode: UInt16? = nil, isShared: Bool, owner: User? = nil) -> Effect {
        .folder(Folder(path: path, mode: mode, isShared: isShared, owner: owner))
    }
}
