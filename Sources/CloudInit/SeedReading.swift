import Model
import System
import Values

extension SeedSources {
    /// cloud-init's own limit for what it fetches is smaller; anything beyond is a mistake, such as an image.
    private static let largest = 16 << 20

    package init(_ arguments: Arguments, files: FileFinder) throws(Failure) {
        self.init()
        if let (path, bytes) = try SeedSources.read(arguments.userData, "user-data", files) {
            userData = FileContent(bytes, from: path)
            try inspectUserData(bytes, path)
        }
        if let (path, bytes) = try SeedSources.read(arguments.metaData, "meta-data", files) {
            metaData = FileContent(bytes, from: path)
            metaDataValue = try SeedSources.mapping(bytes, "meta-data", path)
        }
        if let (path, bytes) = try SeedSources.read(arguments.networkConfig, "network-config", files) {
            networkConfig = FileContent(bytes, from: path)
            _ = try SeedSources.mapping(bytes, "network-config", path)
            if arguments.seedLabel == .config2 {
                warnings.append(
                    "network-config is read by NoCloud guests only, and --seed-label config-2 asks for ConfigDrive")
            }
        }
        for key in arguments.sshKeys { sshKeys += try SeedSources.keys(key, files) }
    }

    private static func read(
        _ name: String?, _ what: String, _ files: FileFinder
    ) throws(Failure) -> (path: String, bytes: [UInt8])? {
        guard let name else { return nil }
        let path = try files.find(name, what: what, kind: .seed)
        let bytes = try Failure.naming(.seed, "read \(what)", path, try Files.read(path, limit: largest + 1))
        if bytes.count > largest { throw Failure(.seed, "use \(what)", path, "it is larger than 16M") }
        return (path, bytes)
    }

    private static func parse(_ bytes: [UInt8], _ what: String, _ path: String) throws(Failure) -> JSON {
        do throws(YAMLSyntaxError) { return try YAML.parse(bytes) } catch {
            let place = "line \(error.line), column \(error.column)"
            throw Failure(.seed, "use \(what)", path, "\(place): \(error.problem)", remedy: "correct the YAML there")
        }
    }

    private static func mapping(_ bytes: [UInt8], _ what: String, _ path: String) throws(Failure) -> JSON {
        let value = try parse(bytes, what, path)
        if value.object == nil { throw Failure(.seed, "use \(what)", path, "it is no YAML mapping (names and values)") }
        return value
    }

    // MARK: - User-data

    /// What the first lines begin with that cloud-init acts on; it passes over anything else without a word.
    private static let beginnings = [
        "#!", "#cloud-config", "#cloud-boothook", "#include", "#part-handler", "#upstart-job", "## template:",
        "Content-Type:", "MIME-Version:", "Received:", "From ",
    ]

    private mutating func inspectUserData(_ bytes: [UInt8], _ path: String) throws(Failure) {
        let shown = path.oneLine
        if bytes.isEmpty { return warnings.append("user-data \(shown) is empty") }
        if bytes.starts(with: [0x1f, 0x8b]) { return }
        let firstLine = String(decoding: bytes.prefix { $0 != 0x0a }.prefix(200), as: UTF8.self).trimmed
        let lowercased = firstLine.lowercased()
        guard Self.beginnings.contains(where: { lowercased.hasPrefix($0.lowercased()) }) else {
            let mark = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? " behind a byte order mark" : ""
            return warnings.append(
                "cloud-init will ignore user-data \(shown): its first line\(mark) is '\(String(firstLine.prefix(40)).oneLine)', "
                    + "and not #cloud-config, #! or the like")
        }
        guard firstLine == "#cloud-config" || firstLine.hasPrefix("#cloud-config ") else { return }
        let value = try SeedSources.parse(bytes, "user-data", path)
        if value.object == nil, value != .null {
            warnings.append("cloud-init will refuse user-data \(shown): it is no YAML mapping (names and values)")
        }
    }

    // MARK: - SSH keys

    private static let keyTypes = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"]

    /// A key itself, or a file of keys, one a line, as GitHub serves them.
    private static func keys(_ text: String, _ files: FileFinder) throws(Failure) -> [String] {
        if isKey(text) { return [text.trimmed] }
        guard let (path, bytes) = try read(text, "SSH key", files) else { return [] }
        let lines = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).map { String($0).trimmed }
        let keys = lines.filter { !$0.isEmpty && !$0.hasPrefix("#") }
        if let wrong = keys.first(where: { !isKey($0) }) {
            let secret = wrong.contains("PRIVATE KEY")
            throw Failure(
                .seed, "use SSH key", path, secret ? "it is a private key" : "'\(wrong.prefix(30))' is no public key",
                remedy: secret ? "give the public one, \(path).pub" : nil)
        }
        if keys.isEmpty { throw Failure(.seed, "use SSH key", path, "there is no key in it") }
        return keys
    }

    private static func isKey(_ text: String) -> Bool {
        let words = text.split(separator: " ")
        return words.count >= 2 && keyTypes.contains { words[0].hasPrefix($0) }
    }
}
