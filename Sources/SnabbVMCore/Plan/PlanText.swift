extension Plan {
    /// The plan as a script: what would be done, in order, each command as it would be typed.
    var shellText: String {
        var lines = ["# What snabbvm would do for machine '\(name)'. Nothing has been touched."]
        lines += notes.map { "# Note: \($0.oneLine)" }
        lines += ["", "# Make what the machine needs"]
        lines += steps.map(\.shellText)
        for port in ports {
            guard let command = port.command else { continue }
            lines += ["", "# The switch of port \(port.name), \(port.source)", background(command)]
        }
        if let passt { lines += ["", "# What plays the network", background(passt)] }
        if let dnsmasq { lines += ["", "# What gives it its address", background(dnsmasq)] }
        lines += ["", "# Start it"]
        lines.append(qemu.shellText)
        if let tmux { lines += ["", "# Beside it: the windows to look at it with", tmux.shellText] }
        let undone = steps.reversed().compactMap { $0.undoText(folders) }
        let ending = lines.contains { $0.hasSuffix(Plan.remembered) } ? ["kill $started"] : []
        lines += ["", "# When it ends, give back"] + ending + undone
        return lines.joined(separator: "\n")
    }

    private static let remembered = "& started=\"$started $!\""

    private func background(_ command: Command) -> String { "\(command.shellText) \(Plan.remembered)" }
}
