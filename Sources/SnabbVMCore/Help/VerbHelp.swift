import Model

extension Verb {
    /// Those for users, and what they are told of each.
    static let shown: [(verb: Verb, usage: String, summary: String)] = [
        (.run, "[run] [options] IMAGE [PORT…]", "boot IMAGE and stay until the machine ends"),
        (.demo, "demo [options]", "boot the built-in demo machine"),
        (
            .images, "images [ls|pull|rm|verify] [NAME…] [--json]",
            "list, fetch, remove or check the images of the cache"
        ),
        (.check, "check [options] [PORT…]", "what this host has and lacks, and how to mend it"),
        (.nics, "nics [--json]", "every NIC of this host, what drives it and who has it"),
        (.status, "status [--name NAME] [--json|--health]", "say how a running machine is"),
        (.ports, "ports [--name NAME] [--watch] [--json]", "the packets, drops and rates of its NIC ports"),
        (.stop, "stop [--name NAME] [--now]", "press its power button, and wait for its end"),
        (
            .console, "console [--name NAME] [WINDOW]",
            "attach to its windows in tmux, or to one: screen, serial, log or a port"
        ),
        (.ssh, "ssh [options] [COMMAND…]", "log in to its guest, as soon as it lets one in"),
        (
            .release, "release [--name NAME | --all | PCI…] [--forget]",
            "give back what a killed launcher left behind, NICs too"
        ),
        (.completion, "completion bash|zsh|fish", "print what makes a shell complete these words"),
        (.manual, "manual", "print the manual page: snabbvm manual | man -l -"), (.help, "help", "print this"),
    ]
}
