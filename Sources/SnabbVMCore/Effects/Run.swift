extension Effect {
    /// A program that changes what is kept.
    struct Run: PassingEffect {
        var command: Command

        var shellText: String { command.shellText }
    }

    static func run(_ command: Command) -> Effect { .run(Run(command: command)) }
}
