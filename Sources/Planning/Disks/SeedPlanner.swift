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

/// The files of the seed disk, for guests that look for NoCloud and for those that look for ConfigDrive.
struct SeedContent {
    let sources: SeedSources
    let instanceID: String
    let hostname: String
    let setsHostname: Bool
    var network: GuestNetworkConfig?

    func files() throws(Failure) -> [(path: String, content: FileContent)] {
        let userData = sources.userData ?? FileContent("#cloud-config\n{}\n")
        let openStackData = Array(openStackMetaData.prettyText.utf8)
        let network = sources.networkConfig == nil ? network : nil
        let networkConfig = network.map { FileContent("\($0.networkConfig.prettyText)\n") } ?? sources.networkConfig
        let networkData = network.map { FileContent("\($0.networkData.prettyText)\n") }
        let all: [(path: String, content: FileContent?)] = [
            ("user-data", userData),
            ("meta-data", try metaData()),
            ("vendor-data", FileContent(vendorData)),
            ("network-config", networkConfig),
            ("openstack/latest/user_data", userData),
            ("openstack/latest/meta_data.json", FileContent(openStackData, isPrivate: sources.metaData != nil)),
            ("openstack/latest/vendor_data.json", FileContent(JSON.string(vendorData).text)),
            ("openstack/latest/network_data.json", networkData),
        ]
        return all.compactMap { path, content in content.map { (path, $0) } }
    }

    /// Keys and host name from the options go beside the user's file, which stays as it is. JSON is YAML, and needs no
    /// rules of our own for quoting. `merge_how` adds to lists in the user's file, where the default would drop ours.
    private var vendorData: String {
        var config: [String: JSON] = [:]
        if !sources.sshKeys.isEmpty { config["ssh_authorized_keys"] = .array(sources.sshKeys.map(JSON.string)) }
        if setsHostname { config["hostname"] = .string(hostname) }
        if !config.isEmpty { config["merge_how"] = "dict(recurse_array,no_replace)+list(append)" }
        return "#cloud-config\n\(JSON.object(config).prettyText)\n"
    }

    /// The user's file byte for byte, with an instance-id where it lacks one, since NoCloud refuses it without.
    private func metaData() throws(Failure) -> FileContent {
        guard let given = sources.metaData else {
            var fields: [String: JSON] = ["instance-id": .string(instanceID), "local-hostname": .string(hostname)]
            if !sources.sshKeys.isEmpty { fields["public-keys"] = .array(sources.sshKeys.map(JSON.string)) }
            return FileContent(fields.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value.text)\n" }.joined())
        }
        if sources.metaDataValue?["instance-id"] != nil { return given }
        if given.bytes.contains(UInt8(ascii: "{")) {
            throw Failure(
                .seed, "use", "meta-data", "it has no instance-id", remedy: "add one: instance-id: \(instanceID)")
        }
        let newline: [UInt8] = given.bytes.last == 0x0a ? [] : [0x0a]
        return FileContent(given.bytes + newline + Array("instance-id: \(instanceID)\n".utf8), isPrivate: true)
    }

    private var openStackMetaData: JSON {
        var fields = sources.metaDataValue?.object ?? [:]
        fields["uuid"] = fields["instance-id"] ?? .string(instanceID)
        fields["hostname"] = fields["local-hostname"] ?? fields["hostname"] ?? .string(hostname)
        fields["name"] = fields["hostname"]
        if !sources.sshKeys.isEmpty {
            let named = sources.sshKeys.enumerated().map { ("key-\($0.offset + 1)", JSON.string($0.element)) }
            fields["public_keys"] = .object(Dictionary(named) { $1 })
        }
        return .object(fields)
    }
}
