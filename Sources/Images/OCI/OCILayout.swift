import Model
import Values

/// `oci:PATH[:TAG]`: a container image with a disk in it, in a folder or an archive.
struct OCIReference: Equatable {
    var path: String
    var tag: String?

    /// Nil for what is no such reference. Tags hold colons too (`localhost/disk:1`): the path is the longest part
    /// before a colon that exists, and ends at the first colon where none does.
    static func parse(_ text: String, exists: (String) -> Bool) -> OCIReference? {
        guard text.hasPrefix("oci:"), !text.hasPrefix("oci://") else { return nil }
        let rest = text.dropFirst(4)
        if rest.isEmpty { return nil }
        let colons = rest.indices.filter { rest[$0] == ":" }
        guard let first = colons.first, !exists(String(rest)) else { return OCIReference(path: String(rest)) }
        let colon = colons.last { exists(String(rest[..<$0])) } ?? first
        let (path, tag) = (rest[..<colon], rest[rest.index(after: colon)...])
        return path.isEmpty || tag.isEmpty ? nil : OCIReference(path: String(path), tag: String(tag))
    }
}

/// A blob that another one names, with what must be true of it.
struct OCIDescriptor: Equatable {
    var digest: Digest
    var size: UInt64
    var mediaType: String

    /// Where the blob is in a layout. Only a digest that was checked makes such a path.
    var blobPath: String { "blobs/\(digest.algorithm.rawValue)/\(digest.hex)" }

    /// A list of manifests instead of one.
    var isIndex: Bool {
        ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"]
            .contains(mediaType)
    }

    fileprivate var isManifest: Bool {
        ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"]
            .contains(mediaType)
    }
}

/// index.json of a layout, or an index that it names: the manifests of several images or platforms.
struct OCIIndex {
    private struct Entry {
        var json: JSON
        var names: [String]
        /// `linux/amd64`
        var platform: String?
    }

    private let entries: [Entry]
    private let source: OCILayout

    private static let deepest = 4

    /// `path` is for words about it.
    init(_ bytes: [UInt8], path: String) throws(Failure) {
        source = OCILayout(path: path)
        let json = try source.json(bytes)
        entries = try source.list(json["manifests"], "its index has no list of manifests").map { json in
            let notes = json["annotations"]
            let names = ["org.opencontainers.image.ref.name", "io.containerd.image.name"].compactMap {
                notes?[$0]?.string
            }
            let platform = json["platform"]
            let (system, architecture) = (platform?["os"]?.string, platform?["architecture"]?.string)
            return Entry(
                json: json, names: names, platform: system.flatMap { os in architecture.map { "\(os)/\($0)" } })
        }
    }

    /// The one manifest that is meant, or an index that has it (`isIndex`).
    func manifest(tag: String?, architecture: String = "amd64") throws(Failure) -> OCIDescriptor {
        var candidates = entries
        if let tag { candidates = try source.tagged(tag, entries, \.names) }
        let fitting = try fitting(candidates, architecture)
        guard tag == nil, Set(fitting.map(\.descriptor.digest)).count > 1 else { return fitting[0].descriptor }
        // Without a tag it is the only one, or what every container tool takes.
        let latest = fitting.filter { !OCILayout.matching("latest", [$0.entry], \.names).isEmpty }
        guard let only = latest.first, latest.allSatisfy({ $0.descriptor == only.descriptor }) else {
            throw source.severalTags(fitting.map(\.entry.names))
        }
        return only.descriptor
    }

    /// Goes down through indexes, which `read` gives, to a manifest.
    func manifest(
        tag: String?, architecture: String = "amd64", read: (OCIDescriptor) throws -> [UInt8]
    ) throws -> OCIDescriptor {
        var found = try manifest(tag: tag, architecture: architecture)
        for _ in 0..<Self.deepest where found.isIndex {
            // In an index that stands for one image: the first that fits, as the specification has it.
            let index = try OCIIndex(try read(found), path: source.path)
            found = try index.fitting(index.entries, architecture)[0].descriptor
        }
        if found.isIndex { throw source.unusable("its indexes lead nowhere") }
        return found
    }

    /// Never empty. What names this platform goes before what names none; other platforms, and things that are no
    /// images (signatures, attestations), are left out.
    private func fitting(
        _ candidates: [Entry], _ architecture: String
    ) throws(Failure) -> [(entry: Entry, descriptor: OCIDescriptor)] {
        let platform = "linux/\(architecture)"
        let exact = candidates.filter { $0.platform == platform }
        var fitting: [(entry: Entry, descriptor: OCIDescriptor)] = []
        for entry in exact.isEmpty ? candidates.filter({ $0.platform == nil }) : exact {
            let descriptor = try source.descriptor(entry.json, "its index names a blob")
            if descriptor.isIndex || descriptor.isManifest { fitting.append((entry, descriptor)) }
        }
        if !fitting.isEmpty { return fitting }
        let others = Set(candidates.compactMap(\.platform)).subtracting(["unknown/unknown", platform]).sorted()
        let only = others.isEmpty ? "" : ", only for \(OCILayout.short(others))"
        throw source.unusable("it holds no image for \(platform)\(only)")
    }
}

/// A layout or an archive, by its path, which is for words about it: what its JSON says of layers.
struct OCILayout {
    let path: String

    private static let most = 1000

    /// The layers of one image, topmost first: what a later layer has goes over what an earlier one has.
    func layers(manifest bytes: [UInt8]) throws(Failure) -> [OCIDescriptor] {
        let nothing = "its manifest has no layers"
        var layers: [OCIDescriptor] = []
        for layer in try list(try json(bytes)["layers"], nothing) {
            layers.append(try descriptor(layer, "its manifest names a layer"))
        }
        if layers.isEmpty { throw unusable(nothing) }
        return layers.reversed()
    }

    /// Of the manifest.json of what `docker save` writes: the archive's names of the layers, topmost first; only to be
    /// compared with the names of its members, since they could be any path.
    func layers(dockerManifest bytes: [UInt8], tag: String?) throws(Failure) -> [String] {
        let nothing = "its manifest.json is no list of images"
        var images: [(tags: [String], layers: [String])] = []
        for image in try list(try json(bytes), nothing) {
            let layers = try list(image["Layers"], nothing).compactMap(\.string)
            images.append((image["RepoTags"]?.array?.compactMap(\.string) ?? [], layers))
        }
        var candidates = images
        if let tag {
            candidates = try tagged(tag, images) { $0.tags }
        } else if images.count > 1 {
            candidates = Self.matching("latest", images) { $0.tags }
            if candidates.count != 1 { throw severalTags(images.map { $0.tags }) }
        }
        guard let image = candidates.first, !image.layers.isEmpty else { throw unusable("it has no layers") }
        return image.layers.reversed()
    }

    // MARK: - Parts of it

    /// The digest becomes a path, so it is sha256 as the specification writes it, in lower case, or nothing.
    fileprivate func descriptor(_ json: JSON, _ what: String) throws(Failure) -> OCIDescriptor {
        guard let text = json["digest"]?.string, text.hasPrefix("sha256:"), text == text.lowercased(),
            let digest = Digest(.sha256, hex: text.dropFirst(7)), let size = json["size"]?.integer, size >= 0,
            let mediaType = json["mediaType"]?.string
        else { throw unusable("\(what) without a sha256 digest, size and type") }
        return OCIDescriptor(digest: digest, size: UInt64(size), mediaType: mediaType)
    }

    fileprivate func json(_ bytes: [UInt8]) throws(Failure) -> JSON {
        try JSON(parsing: bytes) { unusable("a part of it is \($0)") }
    }

    fileprivate func list(_ json: JSON?, _ otherwise: String) throws(Failure) -> [JSON] {
        guard let values = json?.array else { throw unusable(otherwise) }
        if values.count > Self.most { throw unusable("it lists more than \(Self.most) parts") }
        return values
    }

    func unusable(_ cause: String, _ remedy: String? = nil) -> Failure {
        Failure(.image, "use image", path, cause, remedy: remedy)
    }

    /// Those named exactly so; else those whose full name, `localhost/disk:1`, ends in this tag.
    fileprivate static func matching<Item>(_ tag: String, _ items: [Item], _ names: (Item) -> [String]) -> [Item] {
        let exact = items.filter { names($0).contains(tag) }
        return exact.isEmpty ? items.filter { names($0).contains { $0.hasSuffix(":\(tag)") } } : exact
    }

    fileprivate func tagged<Item>(_ tag: String, _ items: [Item], _ names: (Item) -> [String]) throws(Failure) -> [Item]
    {
        let matching = Self.matching(tag, items, names)
        if !matching.isEmpty { return matching }
        let there = Self.tags(items.map(names))
        let near = tag.utf8.count > 128 ? nil : tag.nearest(among: there)
        throw unusable(
            there.isEmpty ? "its images have no tags" : "it has no tag '\(tag)', only \(Self.short(there))",
            near.map { "did you mean \($0)?" })
    }

    fileprivate func severalTags(_ names: [[String]]) -> Failure {
        let there = Self.tags(names)
        return there.isEmpty
            ? unusable("it holds several images, and they have no tags")
            : unusable("it holds several images: \(Self.short(there))", "say which: oci:\(path):TAG")
    }

    /// One name for each image, the shortest.
    private static func tags(_ names: [[String]]) -> [String] {
        Set(names.compactMap { $0.min { $0.utf8.count < $1.utf8.count } }.map { String($0.prefix(128)) }).sorted()
    }

    fileprivate static func short(_ names: [String]) -> String {
        let more = names.count > 10 ? " and \(names.count - 10) more" : ""
        return names.prefix(10).joined(separator: ", ") + more
    }
}
