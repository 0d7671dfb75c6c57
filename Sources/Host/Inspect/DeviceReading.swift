import CHost
import Glibc
import Model
import System
import Values

extension HostFacts.IOMMU {
    package init(_ tree: FileTree) {
        self.init()
        units = tree.names("/sys/class/iommu")
        asked = (tree.line("/proc/cmdline") ?? "").split(separator: " ").map(String.init).filter {
            $0.contains("iommu")
        }
        let folder = "/sys/kernel/iommu_groups"
        groups = tree.names(folder).compactMap { name -> Group? in
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

extension HostFacts.NIC {
    /// All network cards, and these other functions.
    package static func all(_ tree: FileTree, and others: Set<PCIAddress> = []) throws(Failure) -> [HostFacts.NIC] {
        let bus = "/sys/bus/pci"
        guard tree.exists("\(bus)/devices") else { return [] }
        return try scan(tree.path(bus)).compactMap { function, name in
            let address = PCIAddress(
                domain: function.domain, bus: function.bus, device: function.device, function: function.function)
            let deviceClass = hexadecimal(UInt64(function.class_id), digits: 4)
            guard deviceClass.hasPrefix("02") || others.contains(address) else { return nil }
            let id = [function.vendor_id, function.device_id].map { hexadecimal(UInt64($0), digits: 4) }
            return HostFacts.NIC(tree, address, id: id.joined(separator: ":"), name: name, deviceClass: deviceClass)
        }.sorted { $0.address < $1.address }
    }

    private init(_ tree: FileTree, _ address: PCIAddress, id: String, name: String, deviceClass: String) {
        let interfaces = HostFacts.NIC.interfaces(of: address.folder, tree)
        self.init(address: address, id: id, name: name, deviceClass: deviceClass, interfaces: interfaces)
        driver = tree.linkName("\(folder)/driver")
        iommuGroup = tree.linkName("\(folder)/iommu_group").flatMap { Int($0) }
        numaNode = tree.number("\(folder)/numa_node").flatMap { $0 < 0 ? nil : $0 }
        self.override = tree.line("\(folder)/driver_override").flatMap { $0 == "(null)" || $0 == "" ? nil : $0 }
        isBusMaster = (try? PCIConfiguration(tree.path(folder)))?.isBusMaster ?? false
        virtualFunctions = tree.number("\(folder)/sriov_numvfs") ?? 0
        if driver == "vfio-pci", let iommuGroup {
            isOpenByVFIO = HostFacts.NIC.isBusy(tree.path("/dev/vfio/\(iommuGroup)"))
        }
    }

    /// The interfaces of a device by its folder; virtio has a device of its own in between.
    static func interfaces(of folder: String, _ tree: FileTree) -> [String] {
        let virtio = tree.names(folder).filter { $0.hasPrefix("virtio") }
        return ([folder] + virtio.map { "\(folder)/\($0)" }).flatMap { tree.names("\($0)/net") }
    }

    /// vfio lets one process at a time open a group.
    private static func isBusy(_ path: String) -> Bool {
        do throws(Errno) { _ = try Descriptor.open(path, O_RDWR) } catch { return error == .busy }
        return false
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

extension NICMark {
    /// What this container or host calls itself.
    package static var thisHost: String { FileTree().line("/proc/sys/kernel/hostname") ?? "localhost" }

    /// The one that a device bears, by its folder.
    static func of(_ folder: String) -> NICMark? { FileTree().line("\(folder)/driver_override").flatMap(NICMark.init) }
}
