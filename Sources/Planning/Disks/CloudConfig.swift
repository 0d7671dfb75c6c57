import Model
import Values

/// The files of the seed disk, for guests that look for NoCloud and for those that look for ConfigDrive.
struct SeedContent: Equatable {
    struct File: Equatable {
        var path: String
        var content: FileContent
    }
    var files: [File] = []

    init(
        _ sources: SeedSources, instanceID: String, hostname: String, setsHostname: Bool,
        network: GuestNetworkConfig? = nil
    )
        throws(Failure)
    {
        let userData = sources.userData ?? FileContent("#cloud-config\n{}\n")
        let vendorData = CloudConfig.vendorData(keys: sources.sshKeys, hostname: setsHostname ? hostname : nil)
        add("user-data", userData)
        add("meta-data", try CloudConfig.metaData(sources, instanceID: instanceID, hostname: hostname))
        add("vendor-data", FileContent(vendorData))
        let ownConfig = network.map { FileContent("\($0.networkConfig.prettyText)\n") }
        if let networkConfig = sources.networkConfig ?? ownConfig { add("network-config", networkConfig) }

        let metaData = CloudConfig.openStackMetaData(sources, instanceID: instanceID, hostname: hostname)
        add("openstack/latest/user_data", userData)
        let isPrivate = sources.metaData != nil
        add("openstack/latest/meta_data.json", FileContent(Array(metaData.prettyText.utf8), isPrivate: isPrivate))
        add("openstack/latest/vendor_data.json", FileContent(JSON.string(vendorData).text))
        if sources.networkConfig == nil, let network {
            add("openstack/latest/network_data.json", FileContent("\(network.networkData.prettyText)\n"))
        }
    }

    private mutating func add(_ path: String, _ content: FileContent) {
        files.append(File(path: path, content: content))
    }
}

enum CloudConfig {
    /// Keys and host name from the options go beside the user's file, which stays as it is. JSON is YAML, and needs no
    /// rules of our own for quoting. `merge_how` adds to lists in the user's file, where the default would drop ours.
    static func vendorData(keys: [String], hostname: String?) -> String {
        var config: [String: JSON] = [:]
        if !keys.isEmpty { config["ssh_authorized_keys"] = .array(keys.map(JSON.string)) }
        if let hostname { config["hostname"] = .string(hostname) }
        if !config.isEmpty { config["merge_how"] = "dict(recurse_array,no_replace)+list(append)" }
        return "#cloud-config\n\(JSON.object(config).prettyText)\n"
    }

    /// The user's file byte for byte, with an instance-id where it lacks one, since NoCloud refuses it without.
    static func metaData(_ sources: SeedSources, instanceID: String, hostname: String) throws(Failure) -> FileContent {
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

    static func openStackMetaData(_ sources: SeedSources, instanceID: String, hostname: String) -> JSON {
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
