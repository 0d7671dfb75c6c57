import Values

extension Effect {
    /// Programs, one after the other, that make a file: first under another name, so that it is there whole or not at
    /// all.
    package struct Disk: FileEffect {
        package var path: String
        package var commands: [Command]
        /// What they copy, which must be the same when they are done.
        package var original: Original?

        package struct Original: Codable, Equatable {
            package var path: String
            package var size: UInt64
            package var modified: Int64
        }

        package var shellText: String {
            let rename = "mv \(Effect.unfinished(path).shellQuoted) \(path.shellQuoted)"
            return (commands.map(\.shellText) + [rename]).joined(separator: " &&\n    ")
        }
    }

    package static func disk(path: String, _ commands: [Command], copyOf image: DiskImage? = nil) -> Effect {
        let original = image.map { Disk.Original(path: $0.path, size: $0.fileSize, modified: $0.modified) }
        return .disk(Disk(path: path, commands: commands, original: original))
    }

    /// What they make a disk as, before it gets its name.
    package static func unfinished(_ path: String) -> String { "\(path).new" }
}
