import Values

/// What a NIC's `driver_override` says while it is ours: whose it is, and how it was. It stays with the device when the
/// container and its ledger are gone, every container sees it, and no driver of the kernel takes the NIC meanwhile.
package struct NICMark: Codable, Equatable {
    package var machine: String
    /// The container's or host's name.
    package var host: String
    package var driver: String?
    package var interfaces: [InterfaceState] = []
    /// Of its IOMMU group.
    package var iommuType: String?

    /// A Linux interface that went away with its driver and has to come back as it was.
    package struct InterfaceState: Codable, Equatable {
        package var name: String
        package var isUp: Bool

        package init(name: String, isUp: Bool) {
            self.name = name
            self.isUp = isUp
        }
    }

    package init(machine: String, host: String, driver: String?, interfaces: [InterfaceState], iommuType: String?) {
        self.machine = machine
        self.host = host
        self.driver = driver
        self.interfaces = interfaces
        self.iommuType = iommuType
    }

    package init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        guard words.first == "snabbvm" else { return nil }
        (machine, host) = ("", "")
        for word in words.dropFirst() {
            let pair = word.split(separator: "=", maxSplits: 1).map(String.init)
            guard pair.count == 2 else { continue }
            switch pair[0] {
            case "machine": machine = pair[1]
            case "host": host = pair[1]
            case "driver": driver = pair[1]
            case "up", "down": interfaces.append(InterfaceState(name: pair[1], isUp: pair[0] == "up"))
            case "iommu": iommuType = pair[1]
            default: continue
            }
        }
    }

    package var holder: String { "machine \(machine)'s on \(host)" }

    /// How to take it from there.
    package func release(_ address: PCIAddress) -> String { "snabbvm release --force-port \(address)" }

    package var text: String {
        var words = ["snabbvm", "machine=\(machine)", "host=\(host)"]
        if let driver { words.append("driver=\(driver)") }
        words += interfaces.map { "\($0.isUp ? "up" : "down")=\($0.name)" }
        if let iommuType { words.append("iommu=\(iommuType)") }
        return words.joined(separator: " ")
    }
}
