extension HostFacts {
    /// The truth about the IOMMU: units and groups that are there, not what the kernel command line asked for.
    struct IOMMU: Codable, Equatable {
        var units: [String]
        var groups: [Group]
        /// What the kernel command line asks for, which is not always what came of it.
        var asked: [String] = []

        struct Group: Codable, Equatable {
            var number: Int
            var type: String
            var devices: [String]
            /// Those of them that a driver works with; bridges don't count.
            var inUse: [String] = []

            /// Whether devices see other addresses than the memory's own.
            var isTranslated: Bool { type.hasPrefix("DMA") }
        }

        var isTranslating: Bool { groups.contains(where: \.isTranslated) }
    }

    /// A PCI function, as far as taking it matters.
    struct NIC: Codable, Equatable {
        var address: PCIAddress
        var id: String
        var name: String
        /// Class and subclass, as 0200 for Ethernet.
        var deviceClass: String
        var driver: String?
        var iommuGroup: Int?
        var numaNode: Int?
        /// Its Linux interfaces, as far as this network namespace shows them.
        var interfaces: [String]
        /// What `driver_override` says: while a NIC is ours, whose it is and how it was before.
        var override: String?
        /// Whether it may read and write memory by itself.
        var isBusMaster = false
        /// Another launcher here holds its lock.
        var isLocked = false
        /// A program has its vfio group open.
        var isOpenByVFIO = false
        /// How many virtual functions have been made of it.
        var virtualFunctions = 0

        var isNIC: Bool { deviceClass.hasPrefix("02") }
        var folder: String { "/sys/bus/pci/devices/\(address)" }
        var mark: NICMark? { override.flatMap(NICMark.init) }
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

    var snabbDriver: String? { HostFacts.NIC.snabbDrivers[id]?.driver }

    static var snabbModels: String {
        let models = snabbDrivers.sorted { $0.key < $1.key }.map { "\($0.value.model) (\($0.key))" }
        return models.joined(separator: ", ")
    }
}
