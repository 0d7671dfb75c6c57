import Model
import Values

extension Plan {
    /// The plan as a script: what would be done, in order, each command as it would be typed.
    package var shellText: String {
        var lines = ["# What snabbvm would do for machine '\(name)'. Nothing has been touched."]
        lines += notes.map { "# Note: \($0.oneLine)" }
        lines += ["", "# Make what the machine needs"]
        lines += effects.map(\.shellText)
        for service in services where !service.isDaemon {
            lines += ["", "# \(service.purpose)", "\(service.command.shellText) \(Plan.remembered)"]
        }
        lines += ["", "# Start it"]
        lines.append(qemu.shellText)
        for service in services where service.isDaemon {
            lines += ["", "# \(service.purpose)", service.command.shellText]
        }
        let undone = effects.reversed().compactMap { $0.undoText(folders) }
        let ending = lines.contains { $0.hasSuffix(Plan.remembered) } ? ["kill $started"] : []
        lines += ["", "# When it ends, give back"] + ending + undone
        return lines.joined(separator: "\n")
    }

    private static let remembered = "& started=\"$started $!\""
}
