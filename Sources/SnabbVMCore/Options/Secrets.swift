/// What other users can see of this process's arguments.
enum Secrets {
    /// Puts stars over what is secret in addresses, and over headers, as soon as they are read.
    static func hide() {
        var isHeader = false
        // The kernel shows these very bytes.
        for argument in (0..<Int(CommandLine.argc)).compactMap({ CommandLine.unsafeArgv[$0] }) {
            let text = String(cString: argument)
            let attached = text.hasPrefix("--header=")
            let isSecret = (isHeader || attached) && !text.hasPrefix("@")
            let value = (attached ? "--header=".utf8.count : 0)..<text.utf8.count
            for place in (isSecret ? [value] : secrets(in: text)).joined() {
                argument[place] = CChar(UInt8(ascii: "*"))
            }
            isHeader = text == "--header"
        }
    }

    /// In an address: the login before the host, and what follows the question mark, which can be one too.
    static func secrets(in text: String) -> [Range<Int>] {
        let bytes = Array(text.utf8)
        guard let colon = bytes.indices.first(where: { bytes[$0...].starts(with: Array("://".utf8)) }) else {
            return []
        }
        let start = colon + 3
        let end = bytes[start...].firstIndex { [UInt8(ascii: "/"), UInt8(ascii: "?")].contains($0) } ?? bytes.count
        let login = bytes[start..<end].lastIndex(of: UInt8(ascii: "@")).map { start..<$0 }
        let query = bytes[end...].firstIndex(of: UInt8(ascii: "?")).map { $0 + 1..<bytes.count }
        return [login, query].compactMap(\.self)
    }
}
