import CLinux
import Glibc

/// What other users can see of this process's arguments.
enum Secrets {
    /// Puts stars over the logins in addresses and over headers, as soon as they are read.
    static func hide() {
        var isHeader = false
        for argument in argumentsInMemory {
            let text = String(cString: argument)
            let attached = text.hasPrefix("--header=")
            if isHeader || attached, !text.hasPrefix("@") {
                cover(argument, from: attached ? "--header=".utf8.count : 0, to: text.utf8.count)
            } else if let login = login(in: text) {
                cover(argument, from: login.lowerBound, to: login.upperBound)
            }
            isHeader = text == "--header"
        }
    }

    /// Between the two slashes and the last @ before the next one.
    static func login(in text: String) -> Range<Int>? {
        let bytes = Array(text.utf8)
        guard let colon = bytes.indices.first(where: { bytes[$0...].starts(with: Array("://".utf8)) }) else {
            return nil
        }
        let start = colon + 3
        let end = bytes[start...].firstIndex { $0 == UInt8(ascii: "/") } ?? bytes.count
        return bytes[start..<end].lastIndex(of: UInt8(ascii: "@")).map { start..<$0 }
    }

    private static func cover(_ argument: UnsafeMutablePointer<CChar>, from: Int, to: Int) {
        for place in from..<max(from, to) { argument[place] = CChar(UInt8(ascii: "*")) }
    }

    /// The kernel shows these very bytes.
    private static var argumentsInMemory: [UnsafeMutablePointer<CChar>] {
        (0..<Int(CommandLine.argc)).compactMap { CommandLine.unsafeArgv[$0] }
    }
}
