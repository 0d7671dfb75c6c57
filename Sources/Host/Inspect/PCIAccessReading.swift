import Glibc
import Model
import System

extension HostFacts.PCIAccess {
    private static let mayMount: UInt64 = 1 << 21  // CAP_SYS_ADMIN

    init(_ tree: FileTree, capabilities: UInt64) {
        // Devices are links into /sys/devices: a writable /sys/bus/pci alone would not do.
        let path = tree.path("/sys/bus/pci/drivers_probe")
        let sysfs: Writing
        if access(path, W_OK) == 0 {
            sysfs = .allowed
        } else {
            let canRemount = Errno.last == .readOnly && capabilities & HostFacts.PCIAccess.mayMount != 0
            sysfs = canRemount ? .afterRemount : .refused
        }
        self.init(
            sysfs: sysfs, hasVFIO: tree.exists("/dev/vfio/vfio"),
            hasVFIODriver: tree.exists("/sys/bus/pci/drivers/vfio-pci"))
    }
}
