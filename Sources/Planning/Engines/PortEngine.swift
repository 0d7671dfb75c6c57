import Model
import Values

/// What moves a port's frames: one protocol, and all that differs between the engines behind it. An engine that says
/// nothing else reaches the machine by vhost-user.
package protocol PortEngine: Sendable {
    var name: EngineName { get }
    /// The keys of a port that mean something to it.
    var keys: Set<String> { get }
    /// What a refused key is told.
    var limits: String { get }

    /// What would drive the device; nil where nothing does.
    func driver(for device: PortDevice, _ settings: PortSettings) -> String?
    /// What it can drive, for those who gave it something else.
    var supported: String { get }
    /// Whether the machine's MAC address had better be the device's own.
    func keepsAddress(_ driver: String) -> Bool
    /// Whether the driver works by a program in the interface's receive path.
    func leavesProgram(_ driver: String) -> Bool
    /// In whose hands a NIC is while the engine has it.
    func holder(of nic: HostFacts.NIC) -> NICHolder

    /// The program that moves the frames; nil where there is none, because the machine has the device itself.
    func command(for port: PortPlan, _ context: inout EngineContext) throws(Failure) -> Command?
    /// Settings that the running program watches.
    func settings(of port: PortPlan) -> JSON?
    /// Hugepages of 2 MB that the program can't do without.
    func hugepages(for port: PortPlan) -> Int
    /// Whether it opens taps that can have several queues.
    var hasMultiQueueTaps: Bool { get }

    /// How QEMU is told of the port.
    func qemuWords(for port: PortPlan, accelerator: AcceleratorChoice) -> [String]
    /// Whether QEMU has the device itself.
    var isTheGuests: Bool { get }
}

extension PortEngine {
    package func keepsAddress(_ driver: String) -> Bool { false }
    package func leavesProgram(_ driver: String) -> Bool { false }
    package func settings(of port: PortPlan) -> JSON? { nil }
    package func hugepages(for port: PortPlan) -> Int { 0 }
    package var hasMultiQueueTaps: Bool { false }
    package var isTheGuests: Bool { false }

    package func qemuWords(for port: PortPlan, accelerator: AcceleratorChoice) -> [String] {
        let queues = port.settings.queues ?? 1
        // Checksums are the guest's own work: what it leaves undone nobody behind the switch would do.
        var device = "virtio-net-pci,id=nic-\(port.name),netdev=\(port.name),mac=\(port.mac?.description ?? "")"
        device += ",csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off"
        device += ",mrg_rxbuf=on,rx_queue_size=1024,romfile="
        if let mtu = port.settings.mtu { device += ",host_mtu=\(mtu)" }
        if queues > 1 { device += ",mq=on" }
        // QEMU's software emulation crashes when a vhost-user device has interrupts of its own.
        if accelerator == .tcg { device += ",vectors=0" } else if queues > 1 { device += ",vectors=\(2 * queues + 2)" }
        return [
            "-chardev", "socket,id=\(port.name),path=\(port.socket.optionQuoted),server=on,wait=off",
            "-netdev", "vhost-user,id=\(port.name),chardev=\(port.name)" + (queues > 1 ? ",queues=\(queues)" : ""),
            "-device", device,
        ]
    }
}

extension EngineName {
    package var engine: any PortEngine {
        switch self {
        case .snabb: SnabbEngine()
        case .dpdk: TestpmdEngine()
        case .vfio: VFIOEngine()
        }
    }
}

extension PortSettings {
    /// The engine that was asked for, or Snabb.
    var usedEngine: any PortEngine { (engine ?? .snabb).engine }
}

/// A port's device as it was found.
package enum PortDevice {
    case nic(HostFacts.NIC)
    case interface(HostFacts.Interface)
    case tap(String)

    /// The rights without which no engine can have it.
    var rights: [HostFacts.Privileges.Capability] {
        switch self {
        case .nic: [.sysAdmin]
        case .interface: [.netAdmin, .netRaw]
        case .tap: [.netAdmin]
        }
    }
}

/// Who drives a NIC that is ours.
package enum NICHolder: Equatable {
    /// No driver of the kernel; the program works with physical addresses.
    case program
    /// The kernel's vfio-pci, which gives the device an address space of its own.
    case vfio
    /// Its own driver, which lets others work beside it.
    case ownDriver
}

package struct EngineContext {
    let facts: HostFacts
    let findings: Findings
    /// The processors that are not a switch's alone, as a list.
    let floatingCPUs: String
    /// Hugepages of 2 MB that are left for it.
    var freeHugepages: Int
}
