import Model
import System
import Values

/// The images that a keyword stands for, read from images.json files.
struct ImageCatalog: Equatable {
    struct Entry: Equatable {
        var url: String
        /// A digest, or where a list of digests is.
        var checksum: ChecksumRequest?
        /// A full path, or one relative to the working folder if the file was named so.
        var keyring: String?
        /// The file that it stands in, for words about it.
        var file: String
    }

    private(set) var entries: [String: Entry] = [:]

    private static let largest = 1 << 20

    /// Reads those of the files that exist; what a later one says of a name counts.
    init(files: [String]) throws(Failure) {
        for file in files {
            let bytes: [UInt8]
            do throws(Errno) { bytes = try Files.read(file, limit: Self.largest + 1) } catch {
                if error == .notFound { continue }
                throw Failure(.usage, "read the list of images", file, error)
            }
            if bytes.count > Self.largest { throw Self.unusable(file, "it is larger than \(Self.largest >> 20) MB") }
            try add(bytes, from: file)
        }
    }

    init(_ bytes: [UInt8], file: String) throws(Failure) { try add(bytes, from: file) }

    /// An entry takes the place of the other as a whole: one file's checksum says nothing of another's URL.
    private mutating func add(_ bytes: [UInt8], from file: String) throws(Failure) {
        let json = try JSON(parsing: bytes) { Self.unusable(file, $0) }
        guard let members = json.object else { throw Self.unusable(file, "it is no JSON object") }
        // In order, so that of two mistakes it is always the same that is named.
        for (name, value) in members.sorted(by: { $0.key < $1.key }) {
            entries[name] = try Self.entry(name, value, file)
        }
    }

    private static let keys = ["url", "checksum", "description", "keyring"]

    private static func entry(_ name: String, _ value: JSON, _ file: String) throws(Failure) -> Entry {
        guard isName(name) else {
            throw unusable(
                file, "'\(name)' is no name for an image",
                "letters, digits and . _ + - are allowed, a letter or digit first")
        }
        if name == "demo" { throw unusable(file, "demo is the name of the built-in machine", "use another") }
        guard let members = value.object else { throw unusable(file, "\(name) is no object with a \"url\"") }
        var words: [String: String] = [:]
        for (key, value) in members.sorted(by: { $0.key < $1.key }) {
            guard keys.contains(key) else {
                let near = key.nearest(among: keys).map { "did you mean \"\($0)\"?" }
                throw unusable(
                    file, "\(name): unknown key \"\(key)\"", near ?? "known are \(keys.joined(separator: ", "))")
            }
            if value == .null { continue }
            guard let text = value.string, !text.isEmpty else {
                throw unusable(file, "\(name): \"\(key)\" must be a text that is not empty")
            }
            words[key] = text
        }
        guard let url = words["url"] else { throw unusable(file, "\(name) has no \"url\"") }
        let checksum = words["checksum"].flatMap(ChecksumRequest.init)
        if words["checksum"] != nil, checksum == nil {
            throw unusable(
                file, "\(name): \"checksum\" is no digest",
                "write sha256: and 64 or sha512: and 128 hexadecimal digits, or the URL of a list of digests")
        }
        return Entry(
            url: url, checksum: checksum, keyring: words["keyring"].map { beside(file, $0) }, file: file)
    }

    /// Nothing that could be a path, a URL or an option.
    private static func isName(_ name: String) -> Bool {
        let plain = { (c: Character) in c.isASCII && (c.isLetter || c.isNumber) }
        return name.first.map(plain) == true && name.utf8.count <= 64
            && name.allSatisfy { plain($0) || "._+-".contains($0) }
    }

    /// A keyring lies with the file that names it, wherever the user stands.
    private static func beside(_ file: String, _ path: String) -> String {
        guard !path.hasPrefix("/"), let slash = file.lastIndex(of: "/") else { return path }
        return String(file[...slash]) + path
    }

    /// The name that was probably meant: `debian` is the newest Debian, `debian13` a slip.
    func nearest(_ name: String) -> String? {
        if name.isEmpty || name.utf8.count > 64 { return nil }
        let versions = entries.keys.filter { $0.hasPrefix(name + "-") }
        let numbers = { (name: String) in name.split { !$0.isASCII || !$0.isNumber }.map { Int($0) ?? 0 } }
        let newest = versions.sorted().max { numbers($0).lexicographicallyPrecedes(numbers($1)) }
        return newest ?? name.nearest(among: entries.keys.sorted())
    }

    private static func unusable(_ file: String, _ cause: String, _ remedy: String? = nil) -> Failure {
        Failure(.usage, "use the list of images", file, cause, remedy: remedy)
    }
}
