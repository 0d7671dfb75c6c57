extension HostFacts {
    /// What this process may do to the PCI devices.
    struct PCIAccess: Codable, Equatable {
        enum Writing: String, Codable {
            case allowed
            /// Mounted for reading only, as Docker does without --privileged, and can be mounted anew.
            case afterRemount
            case refused
        }
        var sysfs: Writing
        /// /dev/vfio/vfio is there.
        var hasVFIO: Bool
        /// vfio-pci is loaded, or built in.
        var hasVFIODriver: Bool
    }
}
