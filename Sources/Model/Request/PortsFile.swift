import Values

/// A file of ports: a JSON array of objects, each with `port` (what an argument would name) and any of the keys.
package enum PortsFile {
    package static func parse(_ bytes: [UInt8], path: String) throws(Failure) -> [PortRequest] {
        let json = try JSON(parsing: bytes) { unusable(path, $0) }
        guard let entries = json.array else { throw unusable(path, "it is no JSON array") }
        var requests: [PortRequest] = []
        for (index, entry) in entries.enumerated() {
            guard let members = entry.object, let name = members["port"]?.string else {
                throw unusable(path, "entry \(index + 1) has no \"port\"")
            }
            guard let source = PortSource(name) else {
                throw unusable(path, "entry \(index + 1): '\(name)' is no PCI address, if:INTERFACE or tap:NAME")
            }
            if requests.contains(where: { $0.source == source }) { throw unusable(path, "\(name) stands in it twice") }
            requests.append(PortRequest(source: source, settings: try settings(members, of: name, in: path)))
        }
        return requests
    }

    private static func settings(
        _ members: [String: JSON], of port: String, in path: String
    ) throws(Failure) -> PortSettings {
        var settings = PortSettings()
        // In order, so that of two mistakes it is always the same that is named.
        for (key, value) in members.sorted(by: { $0.key < $1.key }) where key != "port" {
            let text: String
            switch value {
            case .string(let value): text = value
            case .integer(let value): text = "\(value)"
            case .bool(let value): text = value ? "yes" : "no"
            case .null: continue
            default: throw unusable(path, "\(port): \"\(key)\" is no plain value")
            }
            do throws(Failure) { try settings.set(key, text, of: port) } catch {
                throw unusable(path, "\(port): \(error.cause)", error.remedy)
            }
        }
        return settings
    }

    /// What the command line says goes over what the file says; ports that only the file names come after the others.
    package static func merge(_ given: [PortRequest], _ file: [PortRequest]) -> [PortRequest] {
        let merged = given.map { request in
            guard let entry = file.first(where: { $0.source == request.source }) else { return request }
            return PortRequest(source: request.source, settings: request.settings.over(entry.settings))
        }
        return merged + file.filter { entry in !given.contains { $0.source == entry.source } }
    }

    private static func unusable(_ path: String, _ cause: String, _ remedy: String? = nil) -> Failure {
        Failure(.usage, "use --ports-file", path, cause, remedy: remedy)
    }
}
