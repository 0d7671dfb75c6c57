import CHost
import Glibc

extension Facts {
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
        var mark: PortMark? { override.flatMap(PortMark.init) }
    }
}

extension Facts.IOMMU {
    init(_ tree: FileTree) {
        units = tree.names("/sys/class/iommu")
        let words = (tree.line("/proc/cmdline") ?? "").split(separator: " ").map(String.init)
        asked = words.filter { $0.contains("iommu") }
        let folder = "/sys/kernel/iommu_groups"
        groups = tree.names(folder).compactMap { name in
            guard let number = Int(name) else { return nil }
            let devices = tree.names("\(folder)/\(name)/devices")
            let inUse = devices.filter { device in
                let driver = tree.linkName("/sys/bus/pci/devices/\(device)/driver")
                return driver.map { !["pcieport", "vfio-pci", "pci-stub"].contains($0) } ?? false
            }
            return Group(
                number: number, type: tree.line("\(folder)/\(name)/type") ?? "unknown", devices: devices, inUse: inUse)
        }
    }
}

extension Facts.NIC {
    /// All network cards, and these other functions.
    static func all(_ tree: FileTree, and others: Set<PCIAddress> = []) throws(Failure) -> [Facts.NIC] {
        let bus = "/sys/bus/pci"
        guard tree.exists("\(bus)/devices") else { return [] }
        return try scan(tree.path(bus)).compactMap { function, name in
            let address = PCIAddress(
                domain: function.domain, bus: function.bus, device: function.device, function: function.function)
            let deviceClass = part(function.class_id, 4)
            guard deviceClass.hasPrefix("02") || others.contains(address) else { return nil }
            return Facts.NIC(
                tree, address, id: "\(part(function.vendor_id, 4)):\(part(function.device_id, 4))", name: name,
                deviceClass: deviceClass)
        }.sorted { $0.address < $1.address }
    }

    /// By vendor and device, what drives it in Snabb: its own list claims more than its drivers take.
    private static let snabbDrivers: [String: (driver: String, model: String)] = [
        "8086:10fb": ("intel_mp", "82599"), "8086:1521": ("intel_mp", "i350"),
        "8086:1533": ("intel_mp", "i210"), "8086:157b": ("intel_mp", "i210"),
        "8086:154c": ("intel_avf", "700 series VF"), "8086:1889": ("intel_avf", "adaptive VF"),
        "15b3:1013": ("connectx", "ConnectX-4"), "15b3:1015": ("connectx", "ConnectX-4 Lx"),
        "15b3:1017": ("connectx", "ConnectX-5"), "15b3:1019": ("connectx", "ConnectX-5 Ex"),
        "1af4:1000": ("virtio_net", "virtio-net"),
    ]

    var snabbDriver: String? { Facts.NIC.snabbDrivers[id]?.driver }

    static var snabbModels: String {
        let models = snabbDrivers.sorted { $0.key < $1.key }.map { "\($0.value.model) (\($0.key))" }
        return models.joined(separator: ", ")
    }

    private init(_ tree: FileTree, _ address: PCIAddress, id: String, name: String, deviceClass: String) {
        let folder = "/sys/bus/pci/devices/\(address)"
        let override = tree.line("\(folder)/driver_override")
        self.init(
            address: address, id: id, name: name, deviceClass: deviceClass,
            driver: tree.linkName("\(folder)/driver"),
            iommuGroup: tree.linkName("\(folder)/iommu_group").flatMap { Int($0) },
            numaNode: tree.number("\(folder)/numa_node").flatMap { $0 < 0 ? nil : $0 },
            interfaces: Facts.NIC.interfaces(of: folder, tree),
            override: override == "(null)" || override == "" ? nil : override,
            isBusMaster: (try? PCIConfiguration(tree.path(folder)))?.isBusMaster ?? false)
        virtualFunctions = tree.number("\(folder)/sriov_numvfs") ?? 0
        if driver == "vfio-pci", let iommuGroup {
            isOpenByVFIO = Facts.NIC.isBusy(tree.path("/dev/vfio/\(iommuGroup)"))
        }
    }

    /// The interfaces of a device by its folder; virtio has a device of its own in between.
    static func interfaces(of folder: String, _ tree: FileTree) -> [String] {
        let virtio = tree.names(folder).filter { $0.hasPrefix("virtio") }
        return ([folder] + virtio.map { "\(folder)/\($0)" }).flatMap { tree.names("\($0)/net") }
    }

    /// vfio lets one process at a time open a group.
    private static func isBusy(_ path: String) -> Bool {
        do throws(Errno) {
            _ = try Descriptor.open(path, O_RDWR)
            return false
        } catch {
            return error == .busy
        }
    }

    private static func part(_ value: some UnsignedInteger, _ digits: Int) -> String {
        hexadecimal(UInt64(value), digits: digits)
    }

    private static func scan(_ path: String) throws(Failure) -> [(function: chost_pci_function, name: String)] {
        var capacity = 256
        while true {
            var functions = [chost_pci_function](repeating: chost_pci_function(), count: capacity)
            var names = [CChar](repeating: 0, count: capacity * Int(chost_pci_name_size))
            var message = [CChar](repeating: 0, count: 256)
            let count = Int(chost_pci_scan(path, &functions, &names, Int32(capacity), &message, message.count))
            if count < 0 { throw Failure(.host, "read the PCI devices in", path, text(message[...])) }
            if count <= capacity {
                let size = Int(chost_pci_name_size)
                return (0..<count).map { (functions[$0], text(names[$0 * size..<($0 + 1) * size])) }
            }
            capacity = count
        }
    }

    private static func text(_ characters: ArraySlice<CChar>) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
