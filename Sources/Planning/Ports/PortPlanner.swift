import Model
import Values

/// From a request for a port to what is there, to what is refused, and to the effects that make it ours.
package struct PortPlanner {
    private let arguments: Arguments
    private let facts: HostFacts
    private let findings: Findings
    private let uuid: String
    /// How many NICs the guest counts before the ports.
    private let firstNumber: Int
    private let layout: Layout?
    /// Hugepages of 2 MB that the machine leaves, and those that the switches can't do without.
    private let freeHugepages: Int
    private var neededHugepages = 0
    private var context: EngineContext
    private var names: Set<String> = Set(StreamName.allCases.map(\.rawValue))
    /// The ports so far, and what follows from them.
    private var part = PlanPart<[PortPlan]>(decision: [])
    private var isSysfsReady = false

    private static func begin(
        _ arguments: Arguments, _ facts: HostFacts, _ findings: Findings, uuid: String, after firstNumber: Int,
        _ layout: Layout?, _ memory: Plan.MemoryPlan?
    ) -> PortPlanner {
        let pageSize = ByteCount.mebibytes(2)
        var free = facts.hugepages.filter { $0.pageSize == pageSize }.map(\.free).reduce(0, +)
        if let memory, memory.pageSize == pageSize { free -= Int(memory.size.bytes / pageSize.bytes) }
        let floating = layout?.machineCPUs ?? facts.topology?.allowed ?? [0]
        let context = EngineContext(
            facts: facts, findings: findings, floatingCPUs: floating.map(String.init).joined(separator: ","),
            freeHugepages: free)
        return PortPlanner(
            arguments: arguments, facts: facts, findings: findings, uuid: uuid, firstNumber: firstNumber,
            layout: layout, freeHugepages: free, context: context)
    }

    /// All of them, with what is decided about the ports together.
    static func plan(
        _ arguments: Arguments, _ facts: HostFacts, _ findings: Findings, uuid: String, after firstNumber: Int,
        memory: Plan.MemoryPlan, user: User?
    ) throws(Failure) -> PlanPart<(ports: [PortPlan], layout: Layout?)> {
        if findings.ports.isEmpty { return PlanPart(decision: ([], nil)) }
        let folders = findings.folders
        let layout = try LayoutPlanner.plan(findings.ports, arguments, facts)
        var planner = begin(arguments, facts, findings, uuid: uuid, after: firstNumber, layout.decision, memory)
        for (index, request) in findings.ports.enumerated() { try planner.add(request, index: index) }
        try planner.checkHugepages()
        var effects: [Effect] = [
            .folder(path: folders.ports, mode: 0o700, isShared: false, owner: user),
            .folder(path: folders.switches, mode: 0o700, isShared: false),
        ]
        // An IOMMU group changes when all of its devices are without their drivers.
        let taken = planner.part.effects.compactMap(\.takenNIC)
        effects += planner.part.effects.filter(\.isTaking) + (taken.isEmpty ? [] : [.confirm(taken)])
        effects += planner.part.effects.filter { !$0.isTaking }
        let bySnabb = planner.part.decision.filter { $0.engine == .snabb }
        if bySnabb.contains(where: { $0.hugepages > 0 }) {
            effects.append(.mount(path: MachinePaths.snabbHugepages, kind: "hugetlbfs"))
        }
        if !bySnabb.isEmpty { effects.append(.switchFiles(path: folders.snabb)) }
        return PlanPart(
            decision: (planner.part.decision, layout.decision), effects: effects, services: planner.part.services,
            notes: layout.notes + planner.part.notes)
    }

    /// For which of its ports a start would be refused.
    package static func refusals(_ arguments: Arguments, _ facts: HostFacts, _ findings: Findings) -> [Failure] {
        if findings.ports.isEmpty { return [] }
        var refusals: [Failure] = []
        var layout: Layout?
        do throws(Failure) { layout = try LayoutPlanner.plan(findings.ports, arguments, facts).decision } catch {
            refusals.append(error)
        }
        let memory = try? MemoryPlanner.plan(arguments, facts, near: LayoutPlanner.node(of: findings.ports, facts))
            .decision
        var planner = begin(arguments, facts, findings, uuid: "", after: 1, layout, memory)
        for (index, request) in findings.ports.enumerated() {
            do throws(Failure) { try planner.add(request, index: index) } catch { refusals.append(error) }
        }
        do throws(Failure) { try planner.checkHugepages() } catch { refusals.append(error) }
        return refusals
    }

    private mutating func add(_ request: PortRequest, index: Int) throws(Failure) {
        guard facts.privileges.uid == 0 else {
            throw Failure(.port, "take port", "\(request.source)", "only root may", remedy: "run it as root")
        }
        let settings = request.settings
        let engine = settings.usedEngine
        try checkKeys(request, engine)
        let device = try device(request, engine)
        guard let driver = engine.driver(for: device, settings) else { throw unsupported(request, device, engine) }
        try checkRights(device, request)
        let name = settings.name ?? "xe\(index)"
        guard names.insert(name).inserted else {
            throw PortRequest.usage("\(request.source)", "the name \(name) is taken", "choose another")
        }
        let folders = findings.folders
        var port = PortPlan(
            name: name, guestName: "eth\(firstNumber + index)", source: request.source, engine: engine.name,
            driver: driver, settings: settings, node: LayoutPlanner.node(of: request, facts),
            cpu: layout?.switchCPUs[index],
            socket: "\(folders.ports)/\(name).sock", settingsFile: "\(folders.switches)/\(name).json")
        try MachinePaths.checkSocketPath(port.socket)
        if engine.keys.contains("mac") {
            let own = engine.keepsAddress(driver) ? address(of: device) : nil
            port.mac = settings.mac ?? own ?? MachineIdentity.macAddress(uuid, name)
        }
        port.hugepages = engine.hugepages(for: port)
        neededHugepages += port.hugepages
        context.freeHugepages -= port.hugepages
        if let command = try engine.command(for: port, &context) {
            part.services.append(.portSwitch(port, command, attempts: arguments.switchRetries))
        }
        if let settings = engine.settings(of: port) {
            part.effects.append(.file(path: port.settingsFile, mode: 0o600, FileContent(settings.prettyText + "\n")))
        }
        try take(device, engine)
        part.decision.append(port)
    }

    /// The switches' own hugepages are beside the machine's.
    private func checkHugepages() throws(Failure) {
        guard freeHugepages < neededHugepages else { return }
        let total = facts.hugepages.filter { $0.pageSize == .mebibytes(2) }.map(\.total).reduce(0, +)
        let free = max(0, freeHugepages)
        throw Failure(
            .host, "give the ports' switches", "\(neededHugepages) hugepages of 2M",
            "\(free == 0 ? "none is" : free == 1 ? "1 is" : "\(free) are") free beside the machine's memory",
            remedy: "sysctl vm.nr_hugepages=\(total + neededHugepages - free)")
    }

    private func checkRights(_ device: PortDevice, _ request: PortRequest) throws(Failure) {
        let inContainer = facts.privileges.inContainer
        for right in device.rights where !facts.privileges.has(right) {
            throw Failure(
                .host, "take port", "\(request.source)", "it needs the right \(right.name)",
                remedy: inContainer ? "docker run --cap-add \(right.name), or --privileged" : "run it as root")
        }
        if case .tap = device, !facts.privileges.hasTun {
            throw Failure(
                .host, "take port", "\(request.source)", "/dev/net/tun can't be opened",
                remedy: inContainer ? "docker run --device /dev/net/tun" : "modprobe tun")
        }
    }

    private func checkKeys(_ request: PortRequest, _ engine: any PortEngine) throws(Failure) {
        for row in PortKey.table where row.isGiven(request.settings) && !engine.keys.contains(row.name) {
            throw PortRequest.usage(
                "\(request.source)", "engine=\(engine.name.rawValue) knows no \(row.name)", engine.limits)
        }
        if request.settings.vmdq == true, request.settings.mac == nil {
            throw PortRequest.usage("\(request.source)", "vmdq=yes needs mac=", "the NIC filters by it")
        }
    }

    private func unsupported(_ request: PortRequest, _ device: PortDevice, _ engine: any PortEngine) -> Failure {
        if let driver = request.settings.driver {
            return PortRequest.usage(
                "\(request.source)", "engine=\(engine.name.rawValue) has no driver '\(driver)' for it",
                "leave driver= out")
        }
        guard case .nic(let nic) = device else {
            return PortRequest.usage(
                "\(request.source)", "engine=\(engine.name.rawValue) works with PCI devices only", "use engine=dpdk")
        }
        let others = EngineName.allCases.filter {
            $0 != engine.name && $0.engine.driver(for: device, PortSettings()) != nil
        }
        let way = others.map { "engine=\($0.rawValue)" }.joined(separator: " or ")
        return refuse(
            "\(nic.address)",
            "engine=\(engine.name.rawValue) has no driver for \(nic.name) (\(nic.id)); it has for \(engine.supported)",
            way.isEmpty ? nil : "try \(nic.address),\(way)")
    }

    private func refuse(_ port: String, _ cause: String, _ remedy: String?, _ kind: FailureKind = .port) -> Failure {
        Failure(kind, "use port", port, cause, remedy: remedy)
    }

    private func interface(_ name: String) -> HostFacts.Interface? { facts.interfaces?.first { $0.name == name } }

    /// The device's own Ethernet address, as far as its interface tells.
    private func address(of device: PortDevice) -> MACAddress? {
        guard case .nic(let nic) = device else { return nil }
        return nic.interfaces.compactMap(interface).first?.mac
    }

    // MARK: - What is asked for

    private func device(_ request: PortRequest, _ engine: any PortEngine) throws(Failure) -> PortDevice {
        switch request.source {
        case .pci(let address): return .nic(try nic(address, engine))
        case .interface(let name):
            guard let interface = interface(name) else {
                let names = (facts.interfaces ?? []).map(\.name)
                throw refuse("if:\(name)", "there is no such interface", "there is \(names.joined(separator: ", "))")
            }
            let addresses = findings.ports.compactMap(\.source.pciAddress)
            if let nic = facts.nics?.first(where: { addresses.contains($0.address) && $0.interfaces.contains(name) }) {
                throw PortRequest.usage(
                    "if:\(name)", "it is NIC \(nic.address), which is given as well", "give it once")
            }
            try checkUse([interface], of: "if:\(name)")
            if engine.leavesProgram(request.settings.driver ?? ""), interface.hasProgram {
                throw refuse("if:\(name)", "somebody's XDP program is on it", "ip link set \(name) xdp off")
            }
            if let mtu = request.settings.mtu, mtu > interface.mtu {
                throw refuse(
                    "if:\(name),mtu=\(mtu)", "the interface's own MTU is \(interface.mtu)",
                    "ip link set \(name) mtu \(mtu)")
            }
            return .interface(interface)
        case .tap(let name):
            if let interface = interface(name) { try checkUse([interface], of: "tap:\(name)", mayHaveAddress: true) }
            return .tap(name)
        }
    }

    private func nic(_ address: PCIAddress, _ engine: any PortEngine) throws(Failure) -> HostFacts.NIC {
        let nics = facts.nics ?? []
        guard let nic = nics.first(where: { $0.address == address }) else {
            let others = nics.filter(\.isNIC).map(\.address.description)
            let near = address.description.nearest(among: others).map { "did you mean \($0)? " } ?? ""
            throw refuse(
                "\(address)", "there is no such PCI device",
                others.isEmpty ? "this host shows no NICs" : "\(near)NICs: \(others.joined(separator: ", "))")
        }
        if nic.isLocked {
            let holder = nic.mark.map { "machine \($0.machine) has it" } ?? "another snabbvm is taking it"
            throw Failure(.busy, "take NIC", "\(address)", holder, remedy: "see snabbvm nics")
        }
        guard nic.isNIC || engine.name == .vfio else {
            throw refuse("\(address)", "it is no NIC but \(nic.name) (class \(nic.deviceClass))", "see snabbvm nics")
        }
        if let mark = nic.mark, !arguments.forcePort {
            throw Failure(
                .busy, "take NIC", "\(address)", "it is \(mark.holder), or was left behind by it",
                remedy: "if that is gone: \(mark.release(address))")
        }
        try checkUse(nic.interfaces.compactMap(interface), of: "\(address)")
        try checkOtherUse(nic)
        try checkGroup(nic, engine)
        return nic
    }

    /// Nobody is to lose a connection for a mistyped address.
    private func checkUse(_ own: [HostFacts.Interface], of port: String, mayHaveAddress: Bool = false) throws(Failure) {
        var reached = own
        // Whatever stands on it, and on that.
        var index = 0
        while index < reached.count {
            reached += reached[index].uppers.compactMap(interface).filter { !reached.contains($0) }
            index += 1
        }
        if let interface = reached.first(where: \.hasDefaultRoute) {
            throw inUse(port, "\(interface.name) has the host's default route", "choose another port")
        }
        if arguments.forcePort { return }
        for interface in own {
            if let upper = interface.uppers.first { throw inUse(port, "\(interface.name) is part of \(upper)") }
        }
        if !mayHaveAddress, let interface = reached.first(where: { !$0.addresses.isEmpty }) {
            throw inUse(port, "\(interface.name) has the address \(interface.addresses[0])")
        }
    }

    private func inUse(
        _ port: String, _ cause: String, _ remedy: String = "choose another port, or --force-port"
    ) -> Failure {
        Failure(.port, "take", "port \(port)", cause, remedy: remedy)
    }

    /// In use by others than the kernel's network: who drives it in user space has no interface to show for it.
    private func checkOtherUse(_ nic: HostFacts.NIC) throws(Failure) {
        let port = "\(nic.address)"
        if nic.virtualFunctions > 0 {
            throw inUse(
                port, "its \(nic.virtualFunctions) virtual functions would go with it",
                "choose one of these, or: echo 0 > \(nic.folder)/sriov_numvfs")
        }
        if arguments.forcePort || nic.mark != nil { return }
        if nic.isOpenByVFIO { throw inUse(port, "another program has it by vfio") }
        if let driver = nic.driver, driver.contains("uio") {
            throw inUse(port, "it is with \(driver), for another program")
        }
        if nic.driver == nil, nic.isBusMaster {
            throw inUse(
                port, "without a driver it accesses memory: another program may drive it",
                "if none does: snabbvm release \(nic.address)")
        }
    }

    // MARK: - IOMMU

    private func group(of nic: HostFacts.NIC) -> HostFacts.IOMMU.Group? {
        nic.iommuGroup.flatMap { number in facts.iommu?.groups.first { $0.number == number } }
    }

    private func checkGroup(_ nic: HostFacts.NIC, _ engine: any PortEngine) throws(Failure) {
        let group = group(of: nic)
        // Those that this machine gets as well are no obstacle.
        let ours = findings.ports.compactMap(\.source.pciAddress?.description)
        let other = group?.inUse.first { !ours.contains($0) }
        switch engine.holder(of: nic) {
        case .ownDriver: return
        case .vfio:
            let port = "\(nic.address),engine=\(engine.name.rawValue)"
            guard let group else {
                let option = "add intel_iommu=on (or amd_iommu=on) to the kernel's command line"
                throw refuse(port, "the IOMMU is off", option, .host)
            }
            if let other {
                let cause = "it shares IOMMU group \(group.number) with \(other), which is in use"
                throw refuse(port, cause, "choose a port with a group of its own")
            }
            guard facts.pciAccess?.hasVFIODriver == true else {
                throw refuse(port, "vfio-pci is not loaded", "modprobe vfio-pci", .host)
            }
            guard facts.pciAccess?.hasVFIO == true else {
                let option = "in a container: docker run --privileged, or --device /dev/vfio"
                throw refuse(port, "there is no /dev/vfio/vfio", option, .host)
            }
        case .program:
            guard let group, group.isTranslated else { return }
            if facts.cpu.isSandyBridge {
                throw refuse(
                    "\(nic.address)", "on Sandy Bridge the IOMMU spoils what Snabb's NICs write",
                    "add intel_iommu=off to the kernel's command line", .host)
            }
            if let other {
                throw refuse(
                    "\(nic.address)", "its IOMMU group \(group.number) is translated, and \(other) in it is in use",
                    "add iommu=pt to the kernel's command line", .host)
            }
        }
    }

    // MARK: - Taking it

    private mutating func take(_ device: PortDevice, _ engine: any PortEngine) throws(Failure) {
        switch device {
        case .nic(let nic): try take(nic, engine.holder(of: nic))
        case .interface(let interface): if !interface.isUp { part.effects.append(.interfaceUp(name: interface.name)) }
        case .tap(let name):
            if interface(name) == nil { part.effects.append(.tap(name: name, isMultiQueue: engine.hasMultiQueueTaps)) }
        }
    }

    private mutating func take(_ nic: HostFacts.NIC, _ holder: NICHolder) throws(Failure) {
        if holder == .ownDriver { return }
        try makeSysfsWritable()
        if nic.driver != nil, nic.interfaces.isEmpty, nic.isNIC, nic.driver != "vfio-pci" {
            part.notes.append(
                "the interface of \(nic.address) is not in this network namespace: who else needs it can't be seen")
        }
        let group = group(of: nic)
        // What it was before us: the mark of a machine that left it behind knows better than what it is now.
        let states = nic.interfaces.map { name in
            NICMark.InterfaceState(name: name, isUp: interface(name)?.isUp ?? false)
        }
        let before = NICMark(
            machine: arguments.name, host: findings.hostName, driver: nic.mark?.driver ?? nic.driver,
            interfaces: nic.mark?.interfaces ?? states, iommuType: nic.mark?.iommuType ?? group?.type)
        let override = nic.mark == nil ? nic.override : nil
        let binds = holder == .vfio ? "vfio-pci" : nil
        let state = NICState(address: nic.address, mark: before, override: override, binds: binds)
        part.effects.append(.take(state, from: nic.driver, over: nic.mark))
        if holder == .program, let group, group.isTranslated {
            part.effects.append(.iommuType(group: group.number, type: "identity", of: nic.address))
        }
        if let binds { part.effects.append(.bind(address: nic.address, driver: binds, mark: before)) }
    }

    private mutating func makeSysfsWritable() throws(Failure) {
        if isSysfsReady { return }
        isSysfsReady = true
        switch facts.pciAccess?.sysfs {
        case .allowed: return
        case .afterRemount: part.effects.append(.remount(path: "/sys"))
        case .refused, nil:
            throw Failure(
                .host, "take", "NICs", "/sys is read-only here",
                remedy: "in a container: docker run --privileged, or -v /sys:/sys")
        }
    }
}
