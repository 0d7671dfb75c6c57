import Model
import Values

/// Snabb, running the switch program that comes with this launcher.
struct SnabbEngine: PortEngine {
    let name = EngineName.snabb
    let keys: Set<String> = [
        "engine", "driver", "mac", "vlan", "vmdq", "filter-in", "filter-out", "rx-limit", "tx-limit", "mtu", "cpu",
        "name",
    ]
    let limits = "Snabb's switch has one pair of queues"

    private static let nicDrivers = ["intel_mp", "intel_avf", "connectx", "virtio_net"]

    var supported: String { HostFacts.NIC.snabbModels }

    func driver(for device: PortDevice, _ settings: PortSettings) -> String? {
        switch device {
        case .nic(let nic):
            if let given = settings.driver { return SnabbEngine.nicDrivers.contains(given) ? given : nil }
            return nic.snabbDriver
        case .interface: return ["raw", "xdp"].first { $0 == settings.driver ?? "raw" }
        case .tap: return settings.driver ?? "tap" == "tap" ? "tap" : nil
        }
    }

    /// Frames that a device reads and writes by itself are in hugepages, others in ordinary memory.
    func hugepages(for port: PortPlan) -> Int {
        switch port.driver {
        case "raw", "xdp", "tap": 0
        case "virtio_net": 8
        // Long rings, all filled.
        default: 24
        }
    }

    /// A virtual function may not receive for other addresses than the one that it was given.
    func keepsAddress(_ driver: String) -> Bool { driver == "intel_avf" }

    func leavesProgram(_ driver: String) -> Bool { driver == "xdp" }

    func holder(of nic: HostFacts.NIC) -> NICHolder { .program }

    func command(for port: PortPlan, _ context: inout EngineContext) throws(Failure) -> Command? {
        guard let snabb = context.facts.tools.snabb else {
            throw Failure(
                .host, "start", "the switch of port \(port.name)", "snabb is not on PATH",
                remedy: "install Snabb 2024.08, or use engine=dpdk")
        }
        return Command(
            program: snabb, arguments: ["snsh", "\(context.findings.switchFolder)/port.lua", port.settingsFile],
            environment: ["SNABB_SHM_ROOT": context.findings.folders.snabb])
    }

    func settings(of port: PortPlan) -> JSON? {
        var device: [String: JSON] = ["kind": .string(port.driver)]
        switch port.source {
        case .pci(let address): device["pci"] = .string("\(address)")
        case .interface(let name), .tap(let name): device["interface"] = .string(name)
        }
        let asked = port.settings
        var settings: [String: JSON] = [
            "name": .string(port.name), "socket": .string(port.socket), "device": .object(device),
            "vmdq": .bool(asked.vmdq ?? false), "queues": 1, "mtu": .integer(Int64(asked.mtu ?? 1500)),
        ]
        settings["mac"] = port.mac.map { .string("\($0)") }
        settings["cpu"] = port.cpu.map { .integer(Int64($0)) }
        settings["vlan"] = asked.vlan.map { .integer(Int64($0)) }
        settings["filterIn"] = asked.filterIn.map(JSON.string)
        settings["filterOut"] = asked.filterOut.map(JSON.string)
        settings["rxLimit"] = asked.rxLimit.map { .integer(Int64($0)) }
        settings["txLimit"] = asked.txLimit.map { .integer(Int64($0)) }
        return .object(settings)
    }
}
