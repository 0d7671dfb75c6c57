import Glibc
import System
import Values

/// The right to use NICs on this host, one launcher at a time: locks on the devices' own files, which need no right and
/// no place, and end with the process.
package final class NICLocks {
    private var held: [HeldDescriptor] = []

    package init() {}

    /// Takes those that it can; returns the others. Always in the same order, so that of two launchers that want the same
    /// NICs one gets them all.
    package func take(_ addresses: Set<PCIAddress>) -> Set<PCIAddress> {
        var busy: Set<PCIAddress> = []
        for address in addresses.sorted() {
            // A NIC that is not there the plan will tell.
            guard let file = NICLocks.file(of: address) else { continue }
            if NICLocks.lock(file) { held.append(HeldDescriptor(file)) } else { busy.insert(address) }
        }
        return busy
    }

    package func release() { held = [] }

    /// Who only looks has it for a moment as well.
    private static func lock(_ file: borrowing Descriptor) -> Bool {
        for _ in 0..<5 {
            if (try? file.tryLock()) == true { return true }
            usleep(2000)
        }
        return false
    }

    /// Whether another process has it.
    package static func isHeld(_ address: PCIAddress) -> Bool {
        guard let file = file(of: address) else { return false }
        return (try? file.tryLock()) == false
    }

    private static func file(of address: PCIAddress) -> Descriptor? {
        try? Descriptor.open("\(address.folder)/config", O_RDONLY)
    }
}
