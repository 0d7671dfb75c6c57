import CLinux
import Glibc

/// What other users can see of this process's arguments.
enum Secrets {
    /// Puts stars over what is secret in addresses, and over headers, as soon as they are read.
    static func hide() {
        var isHeader = false
        for argument in argumentsInMemory {
            let text = String(cString: argument)
            let attached = text.hasPrefix("--header=")
            if isHeader || attached, !text.hasPrefix("@") {
                cover(argument, from: attached ? "--header=".utf8.count : 0, to: text.utf8.count)
            } else {
                for secret in secrets(in: text) { cover(argument, from: secret.lowerBound, to: secret.upperBound) }
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

    private static func cover(_ argument: UnsafeMutablePointer<CChar>, from: Int, to: Int) {
        for place in from..<max(from, to) { argument[place] = CChar(UInt8(ascii: "*")) }
    }

    /// The kernel shows these very bytes.
    private static var argumentsInMemory: [UnsafeMutablePointer<CChar>] {
        (0..<Int(CommandLine.argc)).compactMap { CommandLine.unsafeArgv[$0] }
    }
}
