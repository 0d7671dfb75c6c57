import Model
import Values

/// What tells a machine from others, the same at each start.
extension Plan {
    package static func uuid(of name: String, _ record: MachineRecord?, hostKey: String) -> String {
        record?.uuid ?? stableUUID(name, hostKey)
    }

    /// 128 bits that are the same at each start of this machine on this host, in the form of a random UUID.
    static func stableUUID(_ name: String, _ hostKey: String) -> String {
        let high = (stableDigest("uuid high", name, hostKey) & ~0xf000) | 0x4000
        let low = (stableDigest("uuid low", name, hostKey) & ~(0b11 << 62)) | (0b10 << 62)
        let text = hexadecimal(high, digits: 16) + hexadecimal(low, digits: 16)
        var parts: [String] = []
        var rest = text[...]
        for length in [8, 4, 4, 4, 12] {
            parts.append(String(rest.prefix(length)))
            rest = rest.dropFirst(length)
        }
        return parts.joined(separator: "-")
    }

    /// Locally administered, the same at each start, and another for each machine and port.
    static func macAddress(_ uuid: String, _ port: String) -> MACAddress {
        let digest = stableDigest("mac", uuid, port)
        let bytes = [40, 0, 8, 16, 24, 32].map { UInt8(truncatingIfNeeded: digest >> UInt64($0)) }
        return MACAddress(bytes: [bytes[0] & 0xfc | 0x02] + bytes[1...])
    }
}
