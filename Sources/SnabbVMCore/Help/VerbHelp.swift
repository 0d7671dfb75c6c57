import Model

/// What users are told of the verbs.
extension Verb {
    /// Those for users.
    static var shown: [Verb] { allCases.filter { !$0.isInternal && $0 != .version } }

    /// Not for users.
    private var isInternal: Bool { [.relay, .fetch, .digest, .unpack].contains(self) }

    var usage: String {
        switch self {
        case .run: "[run] [options] IMAGE [PORT…]"
        case .demo: "demo [options]"
        case .images: "images [ls|pull|rm|verify] [NAME…] [--json]"
        case .check: "check [options] [PORT…]"
        case .nics: "nics [--json]"
        case .status: "status [--name NAME] [--json|--health]"
        case .ports: "ports [--name NAME] [--watch] [--json]"
        case .stop: "stop [--name NAME] [--now]"
        case .console: "console [--name NAME] [WINDOW]"
        case .ssh: "ssh [options] [COMMAND…]"
        case .release: "release [--name NAME | --all | PCI…] [--forget]"
        case .completion: "completion bash|zsh|fish"
        case .manual: "manual"
        case .help: "help"
        case .version: "--version"
        case .relay: "relay STREAM"
        case .fetch: "fetch"
        case .digest, .unpack: "\(rawValue) REQUEST"
        }
    }

    var summary: String {
        switch self {
        case .run: "boot IMAGE and stay until the machine ends"
        case .demo: "boot the built-in demo machine"
        case .images: "list, fetch, remove or check the images of the cache"
        case .check: "what this host has and lacks, and how to mend it"
        case .nics: "every NIC of this host, what drives it and who has it"
        case .status: "say how a running machine is"
        case .ports: "the packets, drops and rates of its NIC ports"
        case .stop: "press its power button, and wait for its end"
        case .console: "attach to its windows in tmux, or to one: screen, serial, log or a port"
        case .ssh: "log in to its guest, as soon as it lets one in"
        case .release: "give back what a killed launcher left behind, NICs too"
        case .completion: "print what makes a shell complete these words"
        case .manual: "print the manual page: snabbvm manual | man -l -"
        case .help: "print this"
        case .version: "print the version"
        case .relay: "connect a terminal to one stream of a machine"
        case .fetch: "bring an image into the cache"
        case .digest: "tell the digest of a file that grows"
        case .unpack: "unpack a file that grows"
        }
    }
}
