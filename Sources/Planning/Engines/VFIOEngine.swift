import Model
import Values

/// No switch at all: the machine has the device itself.
struct VFIOEngine: PortEngine {
    let name = EngineName.vfio
    let keys: Set<String> = ["engine", "name"]
    let limits = "the machine has the device itself, and sets it up as it likes"
    let isTheGuests = true
    let supported = "any PCI device with an IOMMU group of its own"

    func driver(for device: PortDevice, _ settings: PortSettings) -> String? {
        if case .nic = device { "vfio-pci" } else { nil }
    }

    func holder(of nic: HostFacts.NIC) -> NICHolder { .vfio }

    func command(for port: PortPlan, _ context: inout EngineContext) throws(Failure) -> Command? { nil }

    func qemuWords(for port: PortPlan, accelerator: AcceleratorChoice) -> [String] {
        guard case .pci(let address) = port.source else { return [] }
        // No boot ROM: the machine boots from its disks.
        return ["-device", "vfio-pci,id=nic-\(port.name),host=\(address),rombar=0"]
    }
}
