import Values

extension Effect {
    /// A program that changes what is kept.
    package struct Run: PassingEffect {
        package var command: Command

        package var shellText: String { command.shellText }
    }

    package static func run(_ command: Command) -> Effect { .run(Run(command: command)) }
}
