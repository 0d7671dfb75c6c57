extension Plan {
    /// The plan as a script: what would be done, in order, each command as it would be typed.
    var shellText: String {
        var lines = ["# What snabbvm would do for machine '\(name)'. Nothing has been touched."]
        lines += notes.map { "# Note: \($0.oneLine)" }
        lines += ["", "# Make what the machine needs"]
        lines += steps.map(\.shellText)
        for service in services where !service.isDaemon {
            lines += ["", "# \(service.purpose)", "\(service.command.shellText) \(Plan.remembered)"]
        }
        lines += ["", "# Start it"]
        lines.append(qemu.shellText)
        for service in services where service.isDaemon {
            lines += ["", "# \(service.purpose)", service.command.shellText]
        }
        let undone = steps.reversed().compactMap(undoText)
        let ending = lines.contains { $0.hasSuffix(Plan.remembered) } ? ["kill $started"] : []
        lines += ["", "# When it ends, give back"] + ending + undone
        return lines.joined(separator: "\n")
    }

    private static let remembered = "& started=\"$started $!\""

    private func undoText(_ step: Step) -> String? {
        let path: String
        switch step {
        case .folder(let folder, _, let isShared, _):
            if folder == folders.disks, folders.disksAreKept { return nil }
            return "rmdir \(folder.shellQuoted)" + (isShared ? " 2>/dev/null || true" : "")
        case .file(let file, _, _), .pipe(let file, _), .secret(let file, _, _), .seed(let file, _), .disk(let file, _),
            .device(let file, _), .place(let file):
            path = file
        case .run, .confirm, .iommuType, .bind: return nil
        case .remount(let folder): return "mount -o remount,ro \(folder.shellQuoted)"
        case .mount(let folder, _): return "umount \(folder.shellQuoted)"
        case .take(let state, _, _): return state.returnText
        case .interfaceUp(let name): return "ip link set \(name.shellQuoted) down"
        case .tap(let name, _): return "ip link delete \(name.shellQuoted)"
        case .switchFiles(let folder): return "rm -r \(folder.shellQuoted)"
        case .links(_, let program, let changes):
            let lines = changes.reversed().flatMap { (change) -> [String] in
                switch change {
                case .tap(let name, _, _): ["link delete dev \(name)"]
                case .bridged(let state, let bridge, _): state.returning(from: bridge)
                default: []
                }
            }
            return "\(program) -force -batch - <<'.'\n\(lines.text)."
        case .tables(let name, let families, _, let program):
            return families.map { "\(program) delete table \($0) \(name)" }.joined(separator: "\n")
        case .setting(let path, _, let before, _): return "echo \(before) > \(path.shellQuoted)"
        }
        return folders.disksAreKept && path.hasPrefix(folders.disks + "/") ? nil : "rm -f \(path.shellQuoted)"
    }
}

extension NICState {
    /// Giving the NIC back, as it would be typed.
    fileprivate var returnText: String {
        let wasUp = mark.interfaces.filter(\.isUp).map { "ip link set \($0.name.shellQuoted) up" }
        return
            ([
                "[ ! -e \(folder)/driver ] || echo \(address) > \(folder)/driver/unbind",
                "setpci -s \(address) COMMAND=0:4",
                mark.iommuType.map { "echo \($0) > \(folder)/iommu_group/type" },
                "echo \((override ?? "").shellQuoted) > \(folder)/driver_override",
                mark.driver.map { "echo \(address) > /sys/bus/pci/drivers/\($0)/bind" },
            ].compactMap(\.self) + wasUp).joined(separator: "\n")
    }
}
