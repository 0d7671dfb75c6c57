extension Effect {
    /// A file of ours at a path where nothing was.
    struct File: FileEffect {
        var path: String
        var mode: UInt16?
        /// None where nothing is to be done, but somebody will make something of ours there.
        var content: FileContent?

        var shellText: String {
            guard let content, let mode else { return "# \(path.shellQuoted) comes with its program" }
            if let source = content.source {
                return "install -m \(String(mode, radix: 8)) \(source.shellQuoted) \(path.shellQuoted)"
            }
            if content.isPrivate {
                return
                    ": > \(path.shellQuoted)  # \(content.bytes.count) bytes made from your meta-data, not shown here"
            }
            let mask = String(~mode & 0o777, radix: 8)
            let text = String(decoding: content.bytes, as: UTF8.self)
            return "(umask \(mask); printf %s \(text.shellQuoted) > \(path.shellQuoted))"
        }
    }

    static func file(path: String, mode: UInt16, _ content: FileContent) -> Effect {
        .file(File(path: path, mode: mode, content: content))
    }

    static func file(path: String) -> Effect { .file(File(path: path)) }

    static func place(path: String) -> Effect { .file(path: path) }
}

/// What goes into a file. What the user gave may hold secrets: a plan that is printed names only where it came from.
struct FileContent: Codable, Equatable {
    var bytes: [UInt8]
    var source: String?
    /// Made from what the user gave, so no more to be shown than that.
    var isPrivate = false

    init(_ bytes: [UInt8], from source: String? = nil, isPrivate: Bool = false) {
        self.bytes = bytes
        self.source = source
        self.isPrivate = isPrivate
    }

    init(_ text: String) { self.init(Array(text.utf8)) }

    private enum CodingKeys: CodingKey { case text, source }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        bytes = Array(try (values.decodeIfPresent(String.self, forKey: .text) ?? "").utf8)
        source = try values.decodeIfPresent(String.self, forKey: .source)
    }

    func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        if let source {
            try values.encode(source, forKey: .source)
        } else if !isPrivate {
            try values.encode(String(decoding: bytes, as: UTF8.self), forKey: .text)
        }
    }
}
