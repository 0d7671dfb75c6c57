extension Effect {
    /// A program writes the whole file to its output, and the file says in itself how long it is.
    struct Seed: FileEffect {
        var path: String
        var command: Command

        var shellText: String { "(umask 077; \(command.shellText) > \(path.shellQuoted))" }
    }

    static func seed(path: String, _ command: Command) -> Effect { .seed(Seed(path: path, command: command)) }
}
