import Values

/// What tells a machine from others, the same at each start.
package enum MachineIdentity {
    /// The one that it had before; or one that is the same at each start of this machine on this host, in the form of a
    /// random UUID.
    package static func uuid(of name: String, _ record: MachineRecord?, hostKey: String) -> String {
        if let record { return record.uuid }
        let high = (stableDigest("uuid high", name, hostKey) & ~0xf000) | 0x4000
        let low = (stableDigest("uuid low", name, hostKey) & ~(0b11 << 62)) | (0b10 << 62)
        let digits = hexadecimal(high, digits: 16) + hexadecimal(low, digits: 16)
        let groups: Set = [8, 12, 16, 20]
        return digits.enumerated().map { index, digit in groups.contains(index) ? "-\(digit)" : "\(digit)" }.joined()
    }

    /// Locally administered, the same at each start, and another for each machine and port.
    static func macAddress(_ uuid: String, _ port: String) -> MACAddress {
        let digest = stableDigest("mac", uuid, port)
        let bytes = [40, 0, 8, 16, 24, 32].map { UInt8(truncatingIfNeeded: digest >> UInt64($0)) }
        return MACAddress(bytes: [bytes[0] & 0xfc | 0x02] + bytes[1...])
    }
}
