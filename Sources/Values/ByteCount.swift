/// A size in bytes, as users write and read it.
package struct ByteCount: RawRepresentable, Comparable, Codable, CustomStringConvertible {
    package var bytes: UInt64
    /// As it stands in JSON.
    package var rawValue: UInt64 { bytes }

    package init(_ bytes: UInt64) { self.bytes = bytes }
    package init(rawValue: UInt64) { self.init(rawValue) }

    package static func < (a: ByteCount, b: ByteCount) -> Bool { a.bytes < b.bytes }
    package static func mebibytes(_ count: UInt64) -> ByteCount { ByteCount(count << 20) }

    /// `512M`, `4G`, `1.5G`, `4GiB`; a bare number counts in `unit`.
    package init?(_ text: String, unit: UInt64) {
        let digits = text.prefix { $0.isASCII && $0.isNumber || $0 == "." }
        guard let number = Double(digits), number > 0, number.isFinite else { return nil }
        let scales: [String: UInt64] = ["": unit, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        var suffix = text.dropFirst(digits.count).uppercased()
        if suffix.count > 1 {
            if suffix.hasSuffix("IB") { suffix.removeLast(2) } else if suffix.hasSuffix("B") { suffix.removeLast() }
        }
        guard let scale = scales[suffix] else { return nil }
        let bytes = number * Double(scale)
        guard bytes >= 1, bytes < Double(1 << 62) else { return nil }
        self.bytes = UInt64(bytes)
    }

    package var description: String {
        for (name, scale) in [("T", UInt64(1) << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)]
        where bytes >= scale {
            // Not times ten: what a broken image says of itself can be any number.
            let tenths = bytes / scale * 10 + (bytes % scale * 10 + scale / 2) / scale
            return tenths % 10 == 0 ? "\(tenths / 10)\(name)" : "\(tenths / 10).\(tenths % 10)\(name)"
        }
        return "\(bytes)B"
    }

    package var mebibytes: UInt64 { bytes >> 20 }
}
