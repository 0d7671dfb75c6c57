import Values

extension HostFacts {
    /// The truth about the IOMMU: units and groups that are there, not what the kernel command line asked for.
    package struct IOMMU: Codable, Equatable {
        package var units: [String] = []
        package var groups: [Group] = []
        /// What the kernel command line asks for, which is not always what came of it.
        package var asked: [String] = []

        package init() {}

        package struct Group: Codable, Equatable {
            package var number: Int
            package var type: String
            package var devices: [String]
            /// Those of them that a driver works with; bridges don't count.
            package var inUse: [String] = []

            package init(number: Int, type: String, devices: [String], inUse: [String] = []) {
                self.number = number
                self.type = type
                self.devices = devices
                self.inUse = inUse
            }

            /// Whether devices see other addresses than the memory's own.
            package var isTranslated: Bool { type.hasPrefix("DMA") }
        }

        package var isTranslating: Bool { groups.contains(where: \.isTranslated) }
    }

    /// A PCI function, as far as taking it matters.
    package struct NIC: Codable, Equatable {
        package var address: PCIAddress
        package var id: String
        package var name: String
        /// Class and subclass, as 0200 for Ethernet.
        package var deviceClass: String
        package var driver: String?
        package var iommuGroup: Int?
        package var numaNode: Int?
        /// Its Linux interfaces, as far as this network namespace shows them.
        package var interfaces: [String]
        /// What `driver_override` says: while a NIC is ours, whose it is and how it was before.
        package var override: String?
        /// Whether it may read and write memory by itself.
        package var isBusMaster = false
        /// Another launcher here holds its lock.
        package var isLocked = false
        /// A program has its vfio group open.
        package var isOpenByVFIO = false
        /// How many virtual functions have been made of it.
        package var virtualFunctions = 0

        package init(address: PCIAddress, id: String, name: String, deviceClass: String, interfaces: [String]) {
            self.address = address
            self.id = id
            self.name = name
            self.deviceClass = deviceClass
            self.interfaces = interfaces
        }

        package var isNIC: Bool { deviceClass.hasPrefix("02") }
        package var folder: String { address.folder }
        package var mark: NICMark? { override.flatMap(NICMark.init) }
    }

    /// A Linux network interface, as far as taking it away would matter to somebody.
    package struct Interface: Codable, Equatable {
        package var name: String
        package var mac: MACAddress?
        package var mtu = 1500
        package var isUp = false
        /// nil while it is down.
        package var hasLink: Bool?
        /// Bridges, bonds, VLANs and the like that stand on it.
        package var uppers: [String] = []
        /// Without link-local ones.
        package var addresses: [String] = []
        package var hasDefaultRoute = false
        /// An XDP program is in its receive path.
        package var hasProgram = false

        package init(name: String) { self.name = name }
    }

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
        package var hasVFIO = false
        /// vfio-pci is loaded, or built in.
        package var hasVFIODriver = false

        package init(sysfs: Writing) { self.sysfs = sysfs }
    }

    /// Which processors there are to choose from, and where they are.
    package struct Topology: Codable, Equatable {
        /// The processors that this process may use.
        package var allowed: [Int]
        /// Those that the kernel keeps free of everything that is not put there by name.
        package var isolated: [Int] = []
        /// Processors by NUMA node; empty where the kernel knows no nodes.
        package var nodes: [Int: [Int]] = [:]
        /// For each processor those that share its core.
        package var siblings: [Int: [Int]] = [:]

        package init(allowed: [Int]) { self.allowed = allowed }

        package func node(of cpu: Int) -> Int? { nodes.first { $0.value.contains(cpu) }?.key }
    }
}

extension HostFacts.NIC {
    /// By vendor and device, what drives it in Snabb: its own list claims more than its drivers take.
    private static let snabbDrivers: [String: (driver: String, model: String)] = [
        "8086:10fb": ("intel_mp", "82599"), "8086:1521": ("intel_mp", "i350"),
        "8086:1533": ("intel_mp", "i210"), "8086:157b": ("intel_mp", "i210"),
        "8086:154c": ("intel_avf", "700 series VF"), "8086:1889": ("intel_avf", "adaptive VF"),
        "15b3:1013": ("connectx", "ConnectX-4"), "15b3:1015": ("connectx", "ConnectX-4 Lx"),
        "15b3:1017": ("connectx", "ConnectX-5"), "15b3:1019": ("connectx", "ConnectX-5 Ex"),
        "1af4:1000": ("virtio_net", "virtio-net"),
    ]

    package var snabbDriver: String? { HostFacts.NIC.snabbDrivers[id]?.driver }

    package static var snabbModels: String {
        let models = snabbDrivers.sorted { $0.key < $1.key }.map { "\($0.value.model) (\($0.key))" }
        return models.joined(separator: ", ")
    }
}
