import Model
import Values

/// The manual page, in the language of man(7), from the same tables as the help.
enum Manual {
    static var text: String {
        var lines = [
            ".TH SNABBVM 1 \"\" \"snabbvm \(Version.text)\" \"User Commands\"", ".SH NAME",
            "snabbvm \\- boot a virtual machine, with everything it needs, from one command", ".SH SYNOPSIS", ".nf",
        ]
        lines += Help.verbs.map { "\\fBsnabbvm\\fR \(escaped($0.usage))" }
        lines += [".fi", ".SH DESCRIPTION"]
        for paragraph in Help.introduction { lines += [".PP", escaped(paragraph)] }
        lines.append(".SH COMMANDS")
        for (verb, _, summary) in Help.verbs { lines += entry("\\fB\(escaped(verb.rawValue))\\fR", summary) }
        lines.append(".SH OPTIONS")
        for group in OptionRow.Group.allCases {
            lines.append(".SS \(escaped(group.rawValue))")
            for row in OptionRow.table where row.group == group {
                let letter = row.letter.map { "\\fB\\-\($0)\\fR, " } ?? ""
                let value = row.placeholder.map { " \\fI\(escaped($0))\\fR" } ?? ""
                lines += entry("\(letter)\\fB\\-\\-\(escaped(row.name))\\fR\(value)", row.help)
            }
            guard group == .ports else { continue }
            lines += [".SS Keys of a port", escaped(Help.liveKeys)]
            for key in PortKey.table {
                let name = "\\fB\(escaped(key.name))\\fR=\\fI\(escaped(key.placeholder))\\fR"
                lines += entry(name + (key.isLive ? " *" : ""), key.help)
            }
        }
        lines += [".SH ENVIRONMENT", escaped(Help.environment), ".SH EXIT STATUS"]
        for (code, meaning) in Help.exitCodes { lines += entry("\\fB\(code)\\fR", meaning) }
        lines += [
            ".SH FILES", ".TP", "\\fI/u\\fR",
            "where images and other files are looked for first: the folder mounted into a container",
            ".TP", "\\fI/run/snabbvm\\fR", "sockets, logs and ledgers of running machines", ".TP",
            "\\fI/var/lib/snabbvm\\fR", "disks that are not kept, and fetched images", ".TP",
            "\\fI/etc/snabbvm/images.json\\fR", "names of images", ".SH SEE ALSO", ".BR qemu\\-system\\-x86_64 (1),",
            ".BR tmux (1),", ".BR cloud\\-init (1)",
        ]
        return lines.joined(separator: "\n")
    }

    private static func entry(_ tag: String, _ text: String) -> [String] { [".TP", tag, escaped(text)] }

    /// Hyphens as those of a command line, and no line that begins as a request.
    private static func escaped(_ text: String) -> String {
        let result = text.replacing(["\\": "\\e", "-": "\\-", "…": "..."])
        return result.hasPrefix(".") || result.hasPrefix("'") ? "\\&" + result : result
    }
}
