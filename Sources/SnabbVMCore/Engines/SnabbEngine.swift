/// Snabb, running the switch program that comes with this launcher.
struct SnabbEngine: PortEngine {
    let name = EngineName.snabb
    let keys: Set<String> = [
        "engine", "driver", "mac", "vlan", "vmdq", "filter-in", "filter-out", "rx-limit", "tx-limit", "mtu", "cpu",
        "name",
    ]
    let limits = "Snabb's switch has one pair of queues"
    let hasMultiQueueTaps = false
    let needsRoot = false

    private static let nicDrivers = ["intel_mp", "intel_avf", "connectx", "virtio_net"]

    var supported: String { Facts.NIC.snabbModels }

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
    func hugepages(for port: PortPlan) -> Int { port.source.pciAddress == nil ? 0 : 8 }

    /// A virtual function may not receive for other addresses than the one that it was given.
    func keepsAddress(_ driver: String) -> Bool { driver == "intel_avf" }

    func holder(of nic: Facts.NIC) -> NICHolder { .program }

    func command(for port: PortPlan, _ context: EngineContext) throws(Failure) -> Command? {
        guard let snabb = context.tools.snabb else {
            throw Failure(
                .host, "start", "the switch of port \(port.name)", "snabb is not on PATH",
                remedy: "install Snabb 2024.08, or use engine=dpdk")
        }
        return Command(
            program: snabb, arguments: ["snsh", "\(context.switchFolder)/port.lua", port.settingsFile],
            environment: ["SNABB_SHM_ROOT": context.folders.snabb])
    }

    func settings(of port: PortPlan) -> JSON? {
        var device: [String: JSON] = ["kind": .string(port.driver)]
        switch port.source {
        case .pci(let address): device["pci"] = .string(address)
        case .interface(let name), .tap(let name): device["interface"] = .string(name)
        }
        let asked = port.settings
        var settings: [String: JSON] = [
            "name": .string(port.name), "socket": .string(port.socket), "device": .object(device),
            "vmdq": .bool(asked.vmdq ?? false), "queues": 1, "mtu": .integer(Int64(asked.mtu ?? 1500)),
        ]
        settings["mac"] = port.mac.map(JSON.string)
        settings["cpu"] = port.cpu.map { .integer(Int64($0)) }
        settings["vlan"] = asked.vlan.map { .integer(Int64($0)) }
        settings["filterIn"] = asked.filterIn.map(JSON.string)
        settings["filterOut"] = asked.filterOut.map(JSON.string)
        settings["rxLimit"] = asked.rxLimit.map { .integer(Int64($0)) }
        settings["txLimit"] = asked.txLimit.map { .integer(Int64($0)) }
        return .object(settings)
    }

    func qemuWords(for port: PortPlan, accelerator: AcceleratorChoice) -> [String] {
        VhostUser.qemuWords(for: port, accelerator: accelerator)
    }

    func makeReader(for port: PortPlan, _ folders: Folders) -> any SwitchReader { SnabbReader(folders.snabb) }
}

/// Events come as lines of JSON, counters from Snabb's own files.
private final class SnabbReader: SwitchReader {
    private let root: String

    init(_ root: String) { self.root = root }

    func read(_ line: String, isError: Bool) -> (event: SwitchEvent?, log: String?) {
        guard !isError, let message = try? JSON(parsing: line), let name = message["event"]?.string else {
            return (nil, line)
        }
        switch name {
        case "connected": return (.connected, nil)
        case "up": return (.up, nil)
        case "down": return (.down, nil)
        case "disconnected": return (.disconnected, nil)
        case "applied": return (.applied, nil)
        case "refused": return (.refused(message["reason"]?.string ?? "no reason given"), nil)
        default: return (nil, line)
        }
    }

    func counters(pid: Int32) -> PortCounters? {
        let folder = "\(root)/\(pid)"
        let links = Files.names("\(folder)/links")
        guard !links.isEmpty else { return nil }
        var result = PortCounters()
        for link in links {
            let counters = "\(folder)/links/\(link)"
            let ends = link.split(separator: " ").map(String.init)
            guard let from = ends.first, let to = ends.last else { continue }
            if from.hasPrefix("vm.") {
                result.txPackets += SnabbReader.counter("\(counters)/rxpackets")
                result.txBytes += SnabbReader.counter("\(counters)/rxbytes")
            }
            if to.hasPrefix("vm.") {
                result.rxPackets += SnabbReader.counter("\(counters)/rxpackets")
                result.rxBytes += SnabbReader.counter("\(counters)/rxbytes")
            }
            // What one app had no room to give to the next.
            let drops = SnabbReader.counter("\(counters)/txdrop")
            if SnabbReader.leadsToMachine(from, to) { result.rxDrops += drops } else { result.txDrops += drops }
        }
        return result
    }

    private static func leadsToMachine(_ from: String, _ to: String) -> Bool {
        to.hasPrefix("vm.") || from.hasPrefix("nic.") || to.hasPrefix("filter_in.") || from.hasPrefix("filter_in.")
            || to.hasPrefix("limit_in.") || from.hasPrefix("limit_in.")
    }

    /// Eight bytes in the machine's own order.
    private static func counter(_ path: String) -> UInt64 {
        guard let bytes = try? Files.read("\(path).counter", limit: 8), bytes.count == 8 else { return 0 }
        return bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    }
}
