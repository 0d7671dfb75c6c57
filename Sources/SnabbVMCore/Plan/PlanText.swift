extension Plan {
    /// The plan as a script: what would be done, in order, each command as it would be typed.
    var shellText: String {
        var lines = ["# What snabbvm would do for machine '\(name)'. Nothing has been touched."]
        lines += notes.map { "# Note: \($0.oneLine)" }
        lines += ["", "# Make what the machine needs"]
        lines += steps.map(\.shellText)
        lines += ["", "# Start it"]
        lines.append(qemu.shellText)
        if let tmux { lines += ["", "# Beside it: the windows to look at it with", tmux.shellText] }
        let undone = steps.reversed().compactMap(undoText)
        lines += ["", "# When it ends, give back"] + undone
        return lines.joined(separator: "\n")
    }

    private func undoText(_ step: Step) -> String? {
        let path: String
        switch step {
        case .folder(let folder, _, let isShared):
            if folder == folders.disks, folders.disksAreKept { return nil }
            return "rmdir \(folder.shellQuoted)" + (isShared ? " 2>/dev/null || true" : "")
        case .file(let file, _, _), .pipe(let file, _), .seed(let file, _), .disk(let file, _): path = file
        case .run: return nil
        }
        return folders.disksAreKept && path.hasPrefix(folders.disks + "/") ? nil : "rm -f \(path.shellQuoted)"
    }
}
