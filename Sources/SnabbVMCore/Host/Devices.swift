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
        }

        var isTranslating: Bool { groups.contains { $0.type.hasPrefix("DMA") } }
    }

    /// A network card as PCI shows it.
    struct NIC: Codable, Equatable {
        var address: String
        var id: String
        var name: String
        var driver: String?
        /// What Snabb would drive it with; nil where it can't.
        var snabbDriver: String?
        var iommuGroup: Int?
        var numaNode: Int?
        var interfaces: [String]
    }
}

extension Facts.IOMMU {
    init(_ tree: FileTree) {
        units = tree.names("/sys/class/iommu")
        let words = (tree.line("/proc/cmdline") ?? "").split(separator: " ").map(String.init)
        asked = words.filter { $0.contains("iommu") }
        let folder = "/sys/kernel/iommu_groups"
        groups = tree.names(folder).compactMap { name in
            Int(name).map {
                Group(
                    number: $0, type: tree.line("\(folder)/\(name)/type") ?? "unknown",
                    devices: tree.names("\(folder)/\(name)/devices"))
            }
        }
    }
}

extension Facts.NIC {
    /// By vendor and device, what drives it in Snabb. Its own list claims more than its drivers take.
    private static let drivers: [String: String] = [
        "8086:10fb": "intel_mp (82599)", "8086:1521": "intel_mp (i350)",
        "8086:1533": "intel_mp (i210)", "8086:157b": "intel_mp (i210)",
        "8086:154c": "intel_avf", "8086:1889": "intel_avf",
        "15b3:1013": "connectx (ConnectX-4)", "15b3:1015": "connectx (ConnectX-4 Lx)",
        "15b3:1017": "connectx (ConnectX-5)", "15b3:1019": "connectx (ConnectX-5 Ex)",
        "1af4:1000": "virtio_net",
    ]

    static func all(_ tree: FileTree) throws(Failure) -> [Facts.NIC] {
        let bus = "/sys/bus/pci"
        guard tree.exists("\(bus)/devices") else { return [] }
        return try scan(tree.path(bus)).filter { $0.function.class_id >> 8 == 0x02 }.map { function, name in
            let address = [
                part(function.domain, 4), part(function.bus, 2), part(function.device, 2) + ".\(function.function)",
            ].joined(separator: ":")
            let id = "\(part(function.vendor_id, 4)):\(part(function.device_id, 4))"
            let folder = "\(bus)/devices/\(address)"
            let virtio = tree.names(folder).filter { $0.hasPrefix("virtio") }
            let interfaces = ([folder] + virtio.map { "\(folder)/\($0)" }).flatMap { tree.names("\($0)/net") }
            return Facts.NIC(
                address: address, id: id, name: name, driver: tree.linkName("\(folder)/driver"),
                snabbDriver: drivers[id], iommuGroup: tree.linkName("\(folder)/iommu_group").flatMap { Int($0) },
                numaNode: tree.number("\(folder)/numa_node").flatMap { $0 < 0 ? nil : $0 }, interfaces: interfaces)
        }.sorted { $0.address < $1.address }
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
