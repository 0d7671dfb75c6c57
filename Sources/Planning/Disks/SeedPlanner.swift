import Model
import Values

/// The disk from which cloud-init learns who the guest is; none where there is nothing to tell.
enum SeedPlanner {
    static func plan(
        _ arguments: Arguments, _ facts: HostFacts, _ findings: Findings, _ networks: [GuestNICPlan], uuid: String
    ) throws(Failure) -> PlanPart<Plan.DiskPlan?> {
        if findings.seed.isEmpty, arguments.hostname == nil { return PlanPart(decision: nil) }
        guard let xorriso = facts.tools.xorriso else { throw Failure.missing("xorriso", package: "xorriso") }
        let folders = findings.folders
        let files = try SeedContent(
            sources: findings.seed, instanceID: uuid, hostname: arguments.hostname ?? arguments.name,
            setsHostname: arguments.hostname != nil, network: GuestNetworkConfig(networks)
        ).files()
        var effects: [Effect] = [.folder(path: folders.seedFiles, mode: 0o700, isShared: false)]
        var grafts: [String] = []
        for (index, file) in files.enumerated() {
            // The same bytes stand in the disk twice; one staged file serves both.
            let first = files.firstIndex { $0.content == file.content } ?? index
            let staged = "\(folders.seedFiles)/\(first)"
            if first == index { effects.append(.file(path: staged, mode: 0o600, file.content)) }
            grafts.append("\(file.path)=\(staged)")
        }
        let options = [
            "-as", "mkisofs", "-quiet", "-no-pad", "-volid", arguments.seedLabel.rawValue, "-joliet", "-rock",
        ]
        let command = Command(program: xorriso, arguments: options + ["-graft-points"] + grafts)
        return PlanPart(
            decision: Plan.DiskPlan(role: .seed, path: folders.seed, format: .iso),
            effects: effects + [.seed(path: folders.seed, command)])
    }
}
