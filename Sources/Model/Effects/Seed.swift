import Values

extension Effect {
    /// A program writes the whole file to its output, and the file says in itself how long it is.
    package struct Seed: FileEffect {
        package var path: String
        package var command: Command

        package var shellText: String { "(umask 077; \(command.shellText) > \(path.shellQuoted))" }
    }

    package static func seed(path: String, _ command: Command) -> Effect { .seed(Seed(path: path, command: command)) }
}
