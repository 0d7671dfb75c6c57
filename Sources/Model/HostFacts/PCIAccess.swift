extension HostFacts {
    /// What this process may do to the PCI devices.
    package struct PCIAccess: Codable, Equatable {
        package enum Writing: String, Codable {
            case allowed
            /// Mounted for reading only, as Docker does without --privileged, and can be mounted anew.
            case afterRemount
            case refused
        }
        package var sysfs: Writing
        /// /dev/vfio/vfio is there.
        package var hasVFIO: Bool
        /// vfio-pci is loaded, or built in.
        package var hasVFIODriver: Bool

        package init(sysfs: Writing, hasVFIO: Bool, hasVFIODriver: Bool) {
            self.sysfs = sysfs
            self.hasVFIO = hasVFIO
            self.hasVFIODriver = hasVFIODriver
        }
    }
}
