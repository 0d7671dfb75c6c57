/// The six bytes of `52:54:00:12:34:56`.
package struct MACAddress: Hashable, TextCodable {
    package var bytes: [UInt8]

    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        bytes = parts.compactMap { $0.utf8.count == 2 && $0.allSatisfy(\.isHexDigit) ? UInt8($0, radix: 16) : nil }
        if parts.count != 6 || bytes.count != 6 { return nil }
    }

    /// One that a NIC can have.
    package init?(unicast text: String) {
        self.init(text)
        if bytes[0] & 1 != 0 { return nil }
    }

    package init(bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }

    package var description: String { bytes.map { hexadecimal(UInt64($0), digits: 2) }.joined(separator: ":") }
}
