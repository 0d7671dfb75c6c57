import Model
import Values

/// No switch at all: the machine has the device itself.
package struct VFIOEngine: PortEngine {
    package let name = EngineName.vfio
    package let keys: Set<String> = ["engine", "name"]
    package let limits = "the machine has the device itself, and sets it up as it likes"
    package let hasMultiQueueTaps = false
    /// The group's device file is root's, and so is the right to keep the machine's memory in place.
    package let needsRoot = true
    package let supported = "any PCI device with an IOMMU group of its own"

    package func driver(for device: PortDevice, _ settings: PortSettings) -> String? {
        if case .nic = device { "vfio-pci" } else { nil }
    }

    package func hugepages(for port: PortPlan) -> Int { 0 }

    package func keepsAddress(_ driver: String) -> Bool { false }

    package func leavesProgram(_ driver: String) -> Bool { false }

    package func holder(of nic: HostFacts.NIC) -> NICHolder { .vfio }

    package func command(for port: PortPlan, _ context: inout EngineContext) throws(Failure) -> Command? { nil }

    package func settings(of port: PortPlan) -> JSON? { nil }

    package func qemuWords(for port: PortPlan, accelerator: AcceleratorChoice) -> [String] {
        guard case .pci(let address) = port.source else { return [] }
        // No boot ROM: the machine boots from its disks.
        return ["-device", "vfio-pci,id=nic-\(port.name),host=\(address),rombar=0"]
    }
}
