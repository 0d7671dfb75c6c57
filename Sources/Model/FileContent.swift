/// What goes into a file. What the user gave may hold secrets: a plan that is printed names only where it came from.
package struct FileContent: Codable, Equatable {
    package var bytes: [UInt8]
    var source: String?
    /// Made from what the user gave, so no more to be shown than that.
    var isPrivate = false

    package init(_ bytes: [UInt8], from source: String? = nil, isPrivate: Bool = false) {
        self.bytes = bytes
        self.source = source
        self.isPrivate = isPrivate
    }

    package init(_ text: String) { self.init(Array(text.utf8)) }

    private enum CodingKeys: CodingKey { case text, source }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        bytes = Array(try (values.decodeIfPresent(String.self, forKey: .text) ?? "").utf8)
        source = try values.decodeIfPresent(String.self, forKey: .source)
    }

    package func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        if let source {
            try values.encode(source, forKey: .source)
        } else if !isPrivate {
            try values.encode(String(decoding: bytes, as: UTF8.self), forKey: .text)
        }
    }
}
