import Model
import Values

/// What a qcow2 file says of itself in its first bytes.
package struct QcowHeader: Equatable {
    package var size: UInt64
    package var backing: String?
    package var backingFormat: DiskFormat?
    package var isEncrypted: Bool

    private static let backingFormatExtension: UInt64 = 0xe279_2aca

    /// nil where it is none, or its numbers make no sense.
    package init?(_ head: DiskHead) {
        let bytes = head.bytes
        let number = { (place: Int, count: Int) -> UInt64 in
            guard place >= 0, place <= bytes.count - count else { return 0 }
            return bytes[place..<place + count].reduce(0) { $0 << 8 | UInt64($1) }
        }
        let text = { (place: UInt64, count: UInt64) -> String? in
            guard count > 0, count < 1024, place < UInt64(bytes.count), count <= UInt64(bytes.count) - place else {
                return nil
            }
            return String(validating: bytes[Int(place)..<Int(place + count)], as: UTF8.self)
        }
        guard bytes.count >= 104, bytes.starts(with: Array("QFI".utf8) + [0xfb]) else { return nil }
        size = number(24, 8)
        isEncrypted = number(32, 4) != 0
        backing = text(number(8, 8), number(16, 4))
        // Extensions follow the header, each with its kind and its length.
        var place = number(4, 4) >= 3 ? Int(clamping: number(100, 4)) : 72
        while place <= bytes.count - 8, number(place, 4) != 0 {
            let length = number(place + 4, 4)
            if number(place, 4) == QcowHeader.backingFormatExtension {
                backingFormat = text(UInt64(place) + 8, length).flatMap(DiskFormat.init)
            }
            guard length < UInt64(bytes.count) else { break }
            place += 8 + Int((length + 7) & ~7)
        }
    }
}
