/// One NIC port of the machine.
struct PortPlan: Codable, Equatable {
    var name: String
    /// As the guest counts its interfaces.
    var guestName: String
    var source: PortSource
    var engine: EngineName
    var driver: String
    /// nil where the device brings its own.
    var mac: MACAddress?
    var settings: PortSettings
    var node: Int?
    /// The processor that its switch has.
    var cpu: Int?
    var socket: String
    var settingsFile: String
    /// Of 2 MB, that the switch takes for itself.
    var hugepages = 0
}

/// Which processors and memory the machine and its switches have.
struct Layout: Codable, Equatable {
    /// Where the NICs are, so where the machine's memory is to be.
    var node: Int?
    /// Where QEMU may run; nil for anywhere.
    var machineCPUs: [Int]?
    /// By the ports' order.
    var switchCPUs: [Int?] = []
}

extension Plan {
    /// All that is decided about the ports, and refused, before anything is touched.
    mutating func planPorts(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) throws(Failure) {
        guard !inspected.ports.isEmpty else { return }
        layout = try Plan.layout(inspected.ports, arguments, facts, notes: &notes)
        steps.append(.folder(path: folders.ports, mode: 0o700, isShared: false, owner: qemuUser(facts, inspected)))
        steps.append(.folder(path: folders.switches, mode: 0o700, isShared: false))
        var planner = PortPlanner(
            machine: name, uuid: uuid, after: networks.count, arguments, facts, inspected, layout: layout,
            hugepages: Plan.freeHugepages(facts, besides: memory))
        var preparing: [Step] = []
        for (index, request) in inspected.ports.enumerated() {
            let (port, portSteps) = try planner.plan(request, index: index)
            ports.append(port)
            preparing += portSteps
        }
        // An IOMMU group changes when all of its devices are without their drivers.
        let taken = preparing.compactMap(\.takenNIC)
        steps += preparing.filter(\.isTaking) + (taken.isEmpty ? [] : [.confirm(taken)])
        steps += preparing.filter { !$0.isTaking }
        try planner.checkHugepages()
        notes += planner.notes
        services.insert(contentsOf: planner.services, at: 0)
        if ports.contains(where: { $0.engine == .snabb && $0.hugepages > 0 }) {
            steps.append(.mount(path: Folders.snabbHugepages, kind: "hugetlbfs"))
        }
        if ports.contains(where: { $0.engine == .snabb }) { steps.append(.switchFiles(path: folders.snabb)) }
    }

    /// For which of its ports a start would be refused.
    static func portRefusals(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) -> [Failure] {
        if inspected.ports.isEmpty { return [] }
        var refusals: [Failure] = []
        var notes: [String] = []
        var layout: Layout?
        do throws(Failure) { layout = try Plan.layout(inspected.ports, arguments, facts, notes: &notes) } catch {
            refusals.append(error)
        }
        let memory = try? Plan.memory(arguments, facts, near: node(of: inspected.ports, facts), notes: &notes)
        var planner = PortPlanner(
            machine: arguments.name, uuid: "", arguments, facts, inspected, layout: layout,
            hugepages: Plan.freeHugepages(facts, besides: memory))
        for (index, request) in inspected.ports.enumerated() {
            do throws(Failure) { _ = try planner.plan(request, index: index) } catch { refusals.append(error) }
        }
        do throws(Failure) { try planner.checkHugepages() } catch { refusals.append(error) }
        return refusals
    }

    /// Of 2 MB, when the machine has its own.
    private static func freeHugepages(_ facts: Facts, besides memory: MemoryPlan?) -> Int {
        let pageSize = ByteCount.mebibytes(2)
        let free = facts.hugepages.filter { $0.pageSize == pageSize }.map(\.free).reduce(0, +)
        guard let memory, memory.pageSize == pageSize else { return free }
        return free - Int(memory.size.bytes / pageSize.bytes)
    }
}
