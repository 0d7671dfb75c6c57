/// Seen from the machine: rx is what it receives.
package struct PortCounters: Codable, Equatable {
    package var rxPackets: UInt64 = 0
    package var rxBytes: UInt64 = 0
    package var rxDrops: UInt64 = 0
    package var txPackets: UInt64 = 0
    package var txBytes: UInt64 = 0
    package var txDrops: UInt64 = 0
    /// Of the NIC; nil where the engine can't tell.
    package var hasLink: Bool?

    /// Field by field; the link is this one's.
    func combined(with other: PortCounters, _ operation: (UInt64, UInt64) -> UInt64) -> PortCounters {
        var result = self
        for field in [\PortCounters.rxPackets, \.rxBytes, \.rxDrops, \.txPackets, \.txBytes, \.txDrops] {
            result[keyPath: field] = operation(self[keyPath: field], other[keyPath: field])
        }
        return result
    }
}
