import CLinux
import Glibc

extension Facts {
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

extension Facts.PCIAccess {
    private static let mayMount: UInt64 = 1 << 21  // CAP_SYS_ADMIN

    init(_ tree: FileTree, capabilities: UInt64) {
        hasVFIO = tree.exists("/dev/vfio/vfio")
        hasVFIODriver = tree.exists("/sys/bus/pci/drivers/vfio-pci")
        // Devices are links into /sys/devices: a writable /sys/bus/pci alone would not do.
        let path = tree.path("/sys/bus/pci/drivers_probe")
        if access(path, W_OK) == 0 {
            sysfs = .allowed
        } else {
            let canRemount = Errno.last == .readOnly && capabilities & Facts.PCIAccess.mayMount != 0
            sysfs = canRemount ? .afterRemount : .refused
        }
    }
}

/// The configuration space of a PCI function, by its file.
struct PCIConfiguration: ~Copyable {
    private let file: Descriptor
    private static let command: off_t = 4
    private static let busMaster: UInt16 = 1 << 2

    /// By the device's folder in sysfs.
    init(_ folder: String, writable: Bool = false) throws(Errno) {
        file = try Descriptor.open("\(folder)/config", writable ? O_RDWR : O_RDONLY)
    }

    var isBusMaster: Bool { (try? readCommand()).map { $0 & PCIConfiguration.busMaster != 0 } ?? false }

    func clearBusMaster() throws(Errno) {
        let value = try readCommand()
        // All ones come from a device that is gone.
        if value == .max || value & PCIConfiguration.busMaster == 0 { return }
        var cleared = (value & ~PCIConfiguration.busMaster).littleEndian
        try Errno.check { pwrite(file.raw, &cleared, 2, PCIConfiguration.command) }
    }

    private func readCommand() throws(Errno) -> UInt16 {
        var value: UInt16 = 0
        let count = try Errno.check { pread(file.raw, &value, 2, PCIConfiguration.command) }
        if count != 2 { throw Errno(code: EIO) }
        return UInt16(littleEndian: value)
    }
}
