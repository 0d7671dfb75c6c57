import Values

extension Effect {
    /// Programs, one after the other, that make a file: first under another name, so that it is there whole or not at
    /// all.
    package struct Disk: FileEffect {
        package var path: String
        package var commands: [Command]

        package var shellText: String {
            let rename = "mv \(Effect.unfinished(path).shellQuoted) \(path.shellQuoted)"
            return (commands.map(\.shellText) + [rename]).joined(separator: " &&\n    ")
        }
    }

    package static func disk(path: String, _ commands: [Command]) -> Effect {
        .disk(Disk(path: path, commands: commands))
    }

    /// What they make a disk as, before it gets its name.
    package static func unfinished(_ path: String) -> String { "\(path).new" }
}
