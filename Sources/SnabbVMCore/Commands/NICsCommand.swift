import Host
import Model
import Planning
import Values

/// `snabbvm nics`: every NIC, what drives it, what it could be used for, and who has it.
enum NICsCommand {
    static func perform(_ arguments: Arguments) throws -> Int32 {
        var facts = try HostFacts.read(for: arguments)
        try facts.addDevices()
        let nics = (facts.nics ?? []).map { Listed($0, facts) }
        if arguments.json {
            print(try JSON(encoding: nics).prettyText)
        } else if nics.isEmpty {
            print("this host shows no NICs on its PCI bus")
        } else {
            let heads = ["ADDRESS", "ID", "DRIVER", "INTERFACE", "LINK", "NODE", "IOMMU", "ENGINES", "HELD BY", "NAME"]
            print(Table.text(heads, nics.map(\.row)))
        }
        return 0
    }

    private struct Listed: Codable {
        var nic: HostFacts.NIC
        var interfaces: [HostFacts.Interface]
        var iommuType: String?
        var engines: [EngineName]
        var holder: String?

        init(_ nic: HostFacts.NIC, _ facts: HostFacts) {
            self.nic = nic
            interfaces = (facts.interfaces ?? []).filter { nic.interfaces.contains($0.name) }
            iommuType = nic.iommuGroup.flatMap { number in facts.iommu?.groups.first { $0.number == number }?.type }
            engines = EngineName.allCases.filter { $0.engine.driver(for: .nic(nic), PortSettings()) != nil }
            let isHeld = NICLocks.isHeld(nic.address)
            if let mark = nic.mark {
                holder = "\(mark.machine) on \(mark.host)" + (isHeld ? "" : " (left behind, or in another container)")
            } else if isHeld {
                holder = "a snabbvm that is starting"
            }
        }

        var row: [String] {
            let link = interfaces.first.map { !$0.isUp ? "off" : $0.hasLink == true ? "up" : "down" } ?? "-"
            let iommu = nic.iommuGroup.map { "\($0)" + (iommuType.map { " \($0)" } ?? "") } ?? "-"
            return [
                "\(nic.address)", nic.id, nic.driver ?? "-",
                nic.interfaces.isEmpty ? "-" : nic.interfaces.joined(separator: ","),
                link, nic.numaNode.map { "\($0)" } ?? "-", iommu, engines.map(\.rawValue).joined(separator: ","),
                holder ?? "-", nic.name,
            ]
        }
    }
}
