import Model
import Values

/// The help text, from the table of options and the list of verbs.
enum Help {
    static var text: String {
        var lines = [
            "snabbvm \(Version.text): boots a virtual machine, with everything it needs, from one command", "",
            "Usage:",
        ]
        lines += verbs.map { "  snabbvm \($0.usage)".padded(to: 54) + $0.summary }
        for paragraph in introduction { lines += [""] + paragraph.wrapped(at: 112) }
        for group in OptionRow.Group.allCases {
            lines += ["", "\(group.rawValue):"]
            lines += OptionRow.table.filter { $0.group == group }.flatMap(describe)
            if group == .ports { lines += ["", "Keys of a port (\(liveKeys)):"] + PortKey.table.map(describe) }
        }
        lines += [""] + environment.wrapped(at: 112) + [""]
        for (code, meaning) in exitCodes {
            lines.append((code == 0 ? "Exit codes:" : "").padded(to: code < 10 ? 12 : 11) + "\(code) \(meaning)")
        }
        return lines.joined(separator: "\n")
    }

    /// The verbs for users, and what they are told of each.
    static let verbs: [(verb: Verb, usage: String, summary: String)] = [
        (.run, "[run] [options] IMAGE [PORT…]", "boot IMAGE and stay until the machine ends"),
        (.demo, "demo [options]", "boot the built-in demo machine"),
        (
            .images, "images [ls|pull|rm|verify] [NAME…] [--json]",
            "list, fetch, remove or check the images of the cache"
        ),
        (
            .disk, "disk [VERB] --state DIR [IMAGE|FILE]",
            "of a kept disk: info, check, rebase IMAGE, flatten, export FILE"
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

    static let introduction = [
        "IMAGE is a disk image or ISO, packed or not: a file, looked for in /u and then here; a URL (http, https, ftp); "
            + "oci:PATH[:TAG], a container image with a disk in it; a name of images.json, such as debian-13; or 'demo'.",
        "PORT is a NIC, by its PCI address (0000:05:00.0 or 05:00.0), if:INTERFACE, tap:NAME, or env:VARIABLE with "
            + "addresses in it; behind it ,key=value… as below. The guest has the ports in this order, after its other "
            + "NICs. Where none is given, those in SNABBVM_PORTS are taken, one a line.",
    ]

    static let liveKeys = "* changes while it runs, in the file of --ports-file"

    static let environment =
        "Each option can stand in the environment, where the command line overrides it: --memory 4G as SNABBVM_MEMORY=4G, "
        + "--copy as SNABBVM_COPY=yes; lists (--ssh-key, --publish, --header, --qemu-arg) one a line."

    static var exitCodes: [(code: Int32, meaning: String)] {
        [(0, "the guest powered off, or was stopped as asked")] + FailureKind.shown.map { ($0.rawValue, $0.meaning) }
    }

    private static func describe(_ row: PortKey) -> String {
        "      \(row.name)=\(row.placeholder)".padded(to: 38) + row.help + (row.isLive ? " *" : "")
    }

    private static func describe(_ row: OptionRow) -> [String] {
        let letter = row.letter.map { "-\($0), " } ?? "    "
        let left = "  \(letter)--\(row.name)" + (row.placeholder.map { " \($0)" } ?? "")
        if left.count < 38 { return [left.padded(to: 38) + row.help] }
        return [left, String(repeating: " ", count: 38) + row.help]
    }
}
