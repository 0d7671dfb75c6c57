import Model
import Values

/// The manual page, in the language of man(7), from the same tables as the help.
enum Manual {
    static var text: String {
        var lines = [
            ".TH SNABBVM 1 \"\" \"snabbvm \(Version.text)\" \"User Commands\"", ".SH NAME",
            "snabbvm \\- boot a virtual machine, with everything it needs, from one command", ".SH SYNOPSIS", ".nf",
        ]
        for verb in Verb.shown { lines.append("\\fBsnabbvm\\fR \(escaped(verb.usage))") }
        lines += [".fi", ".SH DESCRIPTION"]
        for paragraph in Help.introduction { lines += [".PP", escaped(paragraph)] }
        lines.append(".SH COMMANDS")
        for verb in Verb.shown { lines += [".TP", "\\fB\(escaped(verb.rawValue))\\fR", escaped(verb.summary)] }
        lines.append(".SH OPTIONS")
        for group in OptionRow.Group.allCases {
            lines.append(".SS \(escaped(group.rawValue))")
            for row in OptionRow.table where row.group == group {
                let letter = row.letter.map { "\\fB\\-\($0)\\fR, " } ?? ""
                let value = row.placeholder.map { " \\fI\(escaped($0))\\fR" } ?? ""
                lines += [".TP", "\(letter)\\fB\\-\\-\(escaped(row.name))\\fR\(value)", escaped(row.help)]
            }
            guard group == .ports else { continue }
            lines += [".SS Keys of a port", escaped(Help.liveKeys)]
            for key in PortKey.table {
                lines += [
                    ".TP",
                    "\\fB\(escaped(key.name))\\fR=\\fI\(escaped(key.placeholder))\\fR" + (key.isLive ? " *" : ""),
                    escaped(key.help),
                ]
            }
        }
        lines += [".SH ENVIRONMENT", escaped(Help.environment), ".SH EXIT STATUS"]
        for (code, meaning) in Help.exitCodes { lines += [".TP", "\\fB\(code)\\fR", escaped(meaning)] }
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

    /// A hyphen that is one of the command line's, and no line that begins as a request.
    private static func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "\\": result += "\\e"
            case "-": result += "\\-"
            case "…": result += "..."
            default: result.append(character)
            }
        }
        return result.hasPrefix(".") || result.hasPrefix("'") ? "\\&" + result : result
    }
}
