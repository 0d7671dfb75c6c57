/// A NIC as it was before it became ours: all that it takes to give it back.
struct NICState: Codable, Equatable {
    var address: PCIAddress
    var mark: NICMark
    /// What `driver_override` said before.
    var override: String?
    /// The driver that we give it to while it is ours.
    var binds: String?

    var folder: String { "/sys/bus/pci/devices/\(address)" }
}
