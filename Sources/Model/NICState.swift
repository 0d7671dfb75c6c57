import Values

/// A NIC as it was before it became ours: all that it takes to give it back.
package struct NICState: Codable, Equatable {
    package var address: PCIAddress
    package var mark: NICMark
    /// What `driver_override` said before.
    package var override: String?
    /// The driver that we give it to while it is ours.
    package var binds: String?

    package init(address: PCIAddress, mark: NICMark, override: String? = nil, binds: String? = nil) {
        self.address = address
        self.mark = mark
        self.override = override
        self.binds = binds
    }

    package var folder: String { address.folder }
}
