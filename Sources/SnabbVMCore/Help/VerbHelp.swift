import Model

extension Verb {
    /// Those for users, and what they are told of each.
    static let shown: [(verb: Verb, usage: String, summary: String)] = allCases.compactMap { verb in
        verb.words.map { (verb, $0.usage, $0.summary) }
    }

    private var words: (usage: String, summary: String)? {
        switch self {
        case .run: ("[run] [options] IMAGE [PORT…]", "boot IMAGE and stay until the machine ends")
        case .demo: ("demo [options]", "boot the built-in demo machine")
        case .images:
            ("images [ls|pull|rm|verify] [NAME…] [--json]", "list, fetch, remove or check the images of the cache")
        case .check: ("check [options] [PORT…]", "what this host has and lacks, and how to mend it")
        case .nics: ("nics [--json]", "every NIC of this host, what drives it and who has it")
        case .status: ("status [--name NAME] [--json|--health]", "say how a running machine is")
        case .ports: ("ports [--name NAME] [--watch] [--json]", "the packets, drops and rates of its NIC ports")
        case .stop: ("stop [--name NAME] [--now]", "press its power button, and wait for its end")
        case .console:
            (
                "console [--name NAME] [WINDOW]",
                "attach to its windows in tmux, or to one: screen, serial, log or a port"
            )
        case .ssh: ("ssh [options] [COMMAND…]", "log in to its guest, as soon as it lets one in")
        case .release:
            (
                "release [--name NAME | --all | PCI…] [--forget]",
                "give back what a killed launcher left behind, NICs too"
            )
        case .completion: ("completion bash|zsh|fish", "print what makes a shell complete these words")
        case .manual: ("manual", "print the manual page: snabbvm manual | man -l -")
        case .help: ("help", "print this")
        case .version, .relay, .fetch, .digest, .unpack: nil
        }
    }
}
