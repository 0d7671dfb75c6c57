/// A URL, with what must not be shown.
package struct ImageURL: Codable, Equatable {
    package var text: String

    /// nil where it is a path or a word.
    package init?(_ text: String) {
        guard let colon = text.firstIndex(of: ":"), text[colon...].hasPrefix("://"), colon > text.startIndex,
            text[..<colon].allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "+-.".contains($0)) })
        else { return nil }
        self.text = text
    }

    package var scheme: String { String(text.prefix { $0 != ":" }).lowercased() }
    package var isFTP: Bool { scheme.hasPrefix("ftp") }
    static let schemes = ["http", "https", "ftp", "ftps", "file"]

    /// All of the text; the login with its `@`.
    private var parts: (before: Substring, login: Substring, host: Substring, path: Substring, query: Substring) {
        let start = text.index(text.startIndex, offsetBy: scheme.count + 3)
        let end = text[start...].firstIndex { "/?#".contains($0) } ?? text.endIndex
        let query = text[end...].firstIndex { "?#".contains($0) } ?? text.endIndex
        let host = text[start..<end].lastIndex(of: "@").map(text.index(after:)) ?? start
        return (text[..<start], text[start..<host], text[host..<end], text[end..<query], text[query...])
    }

    /// What can't be asked for at all.
    package func refuseUnknown() throws(Failure) {
        guard ImageURL.schemes.contains(scheme) else {
            throw Failure(
                .usage, "fetch", shown, "\(scheme) is none of \(ImageURL.schemes.joined(separator: ", "))",
                remedy: "look at the address once more")
        }
        // A line break would end a line of the request.
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f }) else {
            throw Failure(
                .usage, "fetch", shown, "there is a space or a control character in it",
                remedy: "write %20 for a space")
        }
    }

    /// Whoever is on the way can change what comes.
    package var isOpen: Bool { ["http", "ftp"].contains(scheme) && !isLocal }

    private var isLocal: Bool {
        let host = parts.host.hasPrefix("[") ? parts.host.prefix { $0 != "]" } : parts.host.prefix { $0 != ":" }
        return host == "localhost" || host == "[::1" || host.hasPrefix("127.") && IPAddress(String(host)) != nil
    }

    /// Who is spoken to.
    package var origin: String { "\(scheme)://\(parts.host)".lowercased() }

    /// Without a login, and without the query, which can be a password as well.
    package var shown: String {
        let parts = parts
        return "\(parts.before)\(parts.host)\(parts.path)" + (parts.query.hasPrefix("?") ? "?…" : "")
    }

    /// What names the file: another login gets the same one.
    package var withoutLogin: String {
        let parts = parts
        return "\(parts.before)\(parts.host)\(parts.path)\(parts.query.prefix { $0 != "#" })"
    }

    package var path: String { ImageURL.percentDecoded(parts.path) }

    /// The last part of the path, as the server has it.
    package var fileName: String { String(path.split(separator: "/").last ?? "") }

    /// The same with the login of another, if it has none.
    package func withLogin(of other: ImageURL) -> ImageURL {
        parts.login.isEmpty ? with(login: other.parts.login, suffix: "") : self
    }

    /// Another file in the same folder.
    package func adding(_ suffix: String) -> ImageURL { with(login: parts.login, suffix: suffix) }

    private func with(login: Substring, suffix: String) -> ImageURL {
        let parts = parts
        var result = self
        result.text = "\(parts.before)\(login)\(parts.host)\(parts.path)\(suffix)\(parts.query)"
        return result
    }

    private static func percentDecoded(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2,
                let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
            {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
