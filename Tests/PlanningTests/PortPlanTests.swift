import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import Supervision
@testable import System
@testable import TestSupport
@testable import Values

@Suite struct PortPlanTests {
    private func plan(_ ports: String..., options: [String] = [], change: (inout HostFacts) -> Void = { _ in }) throws
        -> Plan
    {
        var facts = Samples.factsWithNICs
        change(&facts)
        let arguments = try Parser.parse(options + ["/u/disk.qcow2"] + ports, environment: [:])
        var findings = Findings(folders: MachinePaths(arguments, uid: 0))
        findings.image = Samples.image
        findings.ports = arguments.ports
        findings.hostName = "host"
        return try MachinePlanner.plan(arguments, facts, Wishes(arguments, facts), findings)
    }

    private func expectRefused(
        _ kind: FailureKind, _ words: String, _ ports: String..., options: [String] = [],
        sourceLocation: SourceLocation = #_sourceLocation, change: (inout HostFacts) -> Void = { _ in }
    ) {
        var facts = Samples.factsWithNICs
        change(&facts)
        let failure = expectThrown(Failure.self, sourceLocation: sourceLocation) {
            let arguments = try Parser.parse(options + ["/u/disk.qcow2"] + ports, environment: [:])
            var findings = Findings(folders: MachinePaths(arguments, uid: 0))
            findings.image = Samples.image
            findings.ports = arguments.ports
            return try MachinePlanner.plan(arguments, facts, Wishes(arguments, facts), findings)
        }
        #expect(failure?.kind == kind, sourceLocation: sourceLocation)
        #expect(failure?.line.contains(words) == true, "\(failure?.line ?? "")", sourceLocation: sourceLocation)
    }

    /// The guest sees the ports in the order given, after its eth0.
    @Test func keepsTheOrder() throws {
        let plan = try plan("05:00.1", "05:00.0,name=wan", "if:p2")
        #expect(plan.ports.map(\.name) == ["xe0", "wan", "xe2"])
        #expect(plan.ports.map(\.guestName) == ["eth1", "eth2", "eth3"])
        let devices = plan.qemu.arguments.filter { $0.contains(",netdev=") }.compactMap {
            $0.split(separator: ",").first { $0.hasPrefix("netdev=") }
        }
        #expect(devices == ["netdev=eth0", "netdev=xe0", "netdev=wan", "netdev=xe2"])
        #expect(Set(plan.ports.compactMap(\.mac)).count == 3)
        // A port keeps its address when others come before it, if it has a name.
        #expect(try self.plan("05:00.0,name=wan").ports[0].mac == plan.ports[1].mac)
    }

    @Test func recordsWhatItTakes() throws {
        let plan = try plan("05:00.0")
        let taken = plan.effects.compactMap {
            if case .nic(let taking) = $0 { (taking.state, taking.driver) } else { nil }
        }
        #expect(taken.count == 1 && taken[0].1 == "ixgbe")
        #expect(taken[0].0.mark.text == "snabbvm machine=vm host=host driver=ixgbe up=p0")
        #expect(!plan.effects.contains { if case .iommuType = $0 { true } else { false } })
    }

    @Test func makesATranslatedGroupTransparent() throws {
        let plan = try plan("05:00.0") {
            $0.nics![0].iommuGroup = 7
            $0.iommu = .init(
                units: ["dmar0"],
                groups: [.init(number: 7, type: "DMA-FQ", devices: ["0000:05:00.0"], inUse: ["0000:05:00.0"])])
        }
        #expect(plan.effects.contains(.iommuType(group: 7, type: "identity", of: "0000:05:00.0")))
        #expect(plan.shellText.contains("echo DMA-FQ > /sys/bus/pci/devices/0000:05:00.0/iommu_group/type"))
        let identity = try self.plan("05:00.0") {
            $0.nics![0].iommuGroup = 7
            $0.iommu = .init(units: [], groups: [.init(number: 7, type: "identity", devices: ["0000:05:00.0"])])
        }
        #expect(!identity.effects.contains { if case .iommuType = $0 { true } else { false } })
    }

    @Test func givesTheDeviceItselfToTheMachine() throws {
        let plan = try plan("05:00.0,engine=vfio") {
            $0.nics![0].iommuGroup = 7
            $0.iommu = .init(units: [], groups: [.init(number: 7, type: "DMA", devices: ["0000:05:00.0"])])
        }
        #expect(plan.qemu.arguments.contains { $0.hasPrefix("vfio-pci,id=nic-xe0,host=0000:05:00.0") })
        #expect(plan.services.allSatisfy { $0.role != .port } && plan.ports[0].mac == nil)
        // The group's device is its own in its view of the files, and the machine's memory stays in place.
        #expect(plan.qemu.user?.uid == 65534 && plan.qemu.devices == ["/dev/vfio/vfio", "/dev/vfio/7"])
        #expect(plan.qemu.lockedMemory > plan.memory.size.bytes && !plan.qemu.mayBindLowPorts)
        #expect(
            plan.effects.contains { if case .bind(let binding) = $0 { binding.driver == "vfio-pci" } else { false } })
    }

    // MARK: Refusals

    @Test func refusesWhatIsNotThere() {
        expectRefused(.port, "did you mean 0000:05:00.0?", "05:00.2")
        expectRefused(.port, "no such interface", "if:eth9")
        expectRefused(.port, "it is no NIC", "05:00.0") { $0.nics![0].deviceClass = "0300" }
        expectRefused(.port, "shows no NICs", "05:00.0") { $0.nics = [] }
    }

    @Test func refusesWhatIsInUse() {
        let set = { (change: @escaping (inout HostFacts.Interface) -> Void) in
            { (facts: inout HostFacts) in change(&facts.interfaces![0]) }
        }
        let address = set { $0.addresses = ["192.0.2.1"] }
        expectRefused(.port, "p0 has the address 192.0.2.1", "05:00.0", change: address)
        expectRefused(.port, "p0 has the address", "if:p0", change: address)
        expectRefused(.port, "p0 is part of br0", "05:00.0", change: set { $0.uppers = ["br0"] })
        #expect(throws: Never.self) { try plan("05:00.0", options: ["--force-port"], change: address) }
        // Nothing overrides the loss of the host.
        let route = set { $0.hasDefaultRoute = true }
        expectRefused(.port, "has the host's default route", "05:00.0", options: ["--force-port"], change: route)
        expectRefused(.port, "br0 has the host's default route", "05:00.0", options: ["--force-port"]) {
            $0.interfaces![0].uppers = ["bond0"]
            $0.interfaces! += [("bond0", ["br0"], false), ("br0", [], true)].map {
                .init(name: $0.0, isUp: true, uppers: $0.1, hasDefaultRoute: $0.2)
            }
        }
        expectRefused(.busy, "another snabbvm is taking it", "05:00.0") { $0.nics![0].isLocked = true }
        let left = "snabbvm machine=a host=3f2a driver=ixgbe up=p0"
        expectRefused(.busy, "it is machine a's on 3f2a, or was left behind by it", "05:00.0") {
            $0.nics![0].override = left
        }
    }

    /// Those that have no interface to show for it.
    @Test func refusesWhatOtherProgramsDrive() {
        expectRefused(.port, "another program has it by vfio", "05:00.0") {
            $0.nics![0].driver = "vfio-pci"
            $0.nics![0].isOpenByVFIO = true
        }
        expectRefused(.port, "igb_uio", "05:00.0") { $0.nics![0].driver = "igb_uio" }
        expectRefused(.port, "without a driver it accesses memory", "05:00.0") {
            $0.nics![0].driver = nil
            $0.nics![0].isBusMaster = true
        }
        expectRefused(.port, "its 4 virtual functions", "05:00.0", options: ["--force-port"]) {
            $0.nics![0].virtualFunctions = 4
        }
        expectRefused(.usage, "it is NIC 0000:05:00.0", "05:00.0", "if:p0")
        expectRefused(.port, "XDP program is on it", "if:p1,driver=xdp") { $0.interfaces![1].hasProgram = true }
    }

    /// Two functions of one card that can't be told apart by the IOMMU, both for this machine.
    @Test func takesAWholeIOMMUGroup() throws {
        let plan = try plan("05:00.0,engine=vfio", "05:00.1,engine=vfio") {
            for index in 0...1 { $0.nics![index].iommuGroup = 7 }
            let both = ["0000:05:00.0", "0000:05:00.1"]
            $0.iommu = .init(units: [], groups: [.init(number: 7, type: "DMA", devices: both, inUse: both)])
        }
        let order = plan.effects.compactMap { step -> String? in
            switch step {
            case .nic: "take"
            case .bind: "bind"
            default: nil
            }
        }
        #expect(order == ["take", "take", "bind", "bind"])
    }

    /// What the NIC was before the machine that left it, not what it was found as.
    @Test func takesOverWhatWasLeftBehind() throws {
        let plan = try plan("05:00.0", options: ["--force-port"]) {
            $0.nics![0].override = "snabbvm machine=a host=3f2a driver=ixgbe up=ens1f0 iommu=DMA"
            $0.nics![0].driver = nil
            $0.nics![0].interfaces = []
        }
        let state = plan.effects.compactMap {
            if case .nic(let taking) = $0, taking.driver == nil { taking.state } else { nil }
        }.first
        #expect(state?.mark.text == "snabbvm machine=vm host=host driver=ixgbe up=ens1f0 iommu=DMA")
        #expect(state?.override == nil)
    }

    @Test func namesTheEngineThatWouldDo() {
        expectRefused(.port, "try 0000:05:00.0,engine=dpdk or engine=vfio", "05:00.0") { $0.nics![0].id = "14e4:165f" }
        expectRefused(.port, "82599 (8086:10fb)", "05:00.0") { $0.nics![0].id = "14e4:165f" }
        expectRefused(.usage, "no driver 'ixgbe'", "05:00.0,driver=ixgbe")
        expectRefused(.usage, "works with PCI devices only", "if:p1,engine=vfio")
        expectRefused(.usage, "engine=dpdk knows no filter-in", "if:p1,engine=dpdk,filter-in=ip")
        expectRefused(.usage, "engine=snabb knows no queues", "05:00.0,queues=2")
        expectRefused(.usage, "engine=vfio knows no vlan", "05:00.0,engine=vfio,vlan=3")
        expectRefused(.usage, "needs mac=", "05:00.0,vmdq=yes")
    }

    @Test func refusesWhatTheHostCannot() {
        expectRefused(.host, "snabb is not on PATH", "05:00.0") { $0.tools.snabb = nil }
        expectRefused(.host, "apt-get install dpdk-dev", "if:p1,engine=dpdk") { $0.tools.testpmd = nil }
        expectRefused(.port, "only root may", "05:00.0") { $0.privileges.uid = 1000 }
        expectRefused(.host, "docker run --privileged", "05:00.0") { $0.pciAccess?.sysfs = .refused }
        for (port, right) in [("05:00.0", "SYS_ADMIN"), ("if:p1", "NET_ADMIN"), ("tap:new", "NET_ADMIN")] {
            expectRefused(.host, "right \(right); docker run --cap-add \(right), or --privileged", port) {
                $0.privileges.capabilities = 0
                $0.privileges.inContainer = true
            }
        }
        expectRefused(.host, "/dev/net/tun can't be opened", "tap:new") { $0.privileges.hasTun = false }
        let translated = { (facts: inout HostFacts) in
            facts.nics![0].iommuGroup = 7
            facts.iommu = .init(
                units: [],
                groups: [.init(number: 7, type: "DMA", devices: [], inUse: ["0000:05:00.0", "0000:05:00.1"])])
        }
        expectRefused(.host, "iommu=pt", "05:00.0", change: translated)
        expectRefused(.port, "shares IOMMU group 7 with 0000:05:00.1", "05:00.0,engine=vfio", change: translated)
        expectRefused(.host, "intel_iommu=off", "05:00.0") {
            translated(&$0)
            $0.cpu.isSandyBridge = true
        }
        expectRefused(.host, "the IOMMU is off", "05:00.0,engine=vfio")
        let group = { (facts: inout HostFacts) in
            facts.nics![0].iommuGroup = 7
            facts.iommu = .init(units: [], groups: [.init(number: 7, type: "DMA", devices: [])])
        }
        expectRefused(.host, "modprobe vfio-pci", "05:00.0,engine=vfio") {
            group(&$0)
            $0.pciAccess?.hasVFIODriver = false
        }
        expectRefused(.host, "--device /dev/vfio", "05:00.0,engine=vfio") {
            group(&$0)
            $0.pciAccess?.hasVFIO = false
        }
    }

    @Test func namesThatAreTaken() {
        expectRefused(.usage, "the name serial is taken", "05:00.0,name=serial")
        expectRefused(.usage, "the name a is taken", "05:00.0,name=a", "05:00.1,name=a")
    }

    // MARK: Layout

    @Test func placesEverythingNearTheNICs() throws {
        let plan = try plan("05:00.0", "05:00.1", "if:p2")
        #expect(plan.layout == Layout(node: 1, machineCPUs: [4], switchCPUs: [7, 6, 5]))
        #expect(plan.memory.node == 1)
        #expect(plan.qemu.cpus == [4])
        let given = try self.plan("05:00.0", "05:00.1,cpu=2", options: ["--switch-cpus", "3,6"])
        #expect(given.layout?.switchCPUs == [6, 2])
        #expect(given.notes.contains { $0.contains("processor 2 is on node 0") })
    }

    @Test func prefersIsolatedProcessorsAndWholeCores() throws {
        let isolated = try plan("05:00.0") { $0.topology?.isolated = [5] }
        #expect(isolated.layout == Layout(node: 1, machineCPUs: [4, 6, 7], switchCPUs: [5]))
        let threads = try plan("05:00.0", "05:00.1") {
            $0.topology?.siblings = [4: [4, 6], 6: [4, 6], 5: [5, 7], 7: [5, 7]]
        }
        #expect(threads.layout?.switchCPUs == [7, 6])
    }

    /// One processor is always left for everything else.
    @Test func leavesAProcessorForTheRest() throws {
        let two = { (facts: inout HostFacts) in
            facts.topology = .init(allowed: [0, 1])
            facts.topology?.nodes = [0: [0, 1]]
            facts.nics![0].numaNode = nil
            facts.nics![1].numaNode = nil
        }
        let plan = try plan("05:00.0", "05:00.1", change: two)
        #expect(plan.layout == Layout(node: nil, machineCPUs: [0], switchCPUs: [1, nil]))
        #expect(plan.notes.contains { $0.contains("no processor is left for the switch of port 0000:05:00.1") })
        expectRefused(.usage, "processor 9", "05:00.0,cpu=9")
    }

    @Test func countsTheSwitchesHugepages() throws {
        let some = { (free: Int) in
            { (facts: inout HostFacts) in
                facts.hugepages = [.init(node: 0, pageSize: .mebibytes(2), total: 1100, free: free)]
            }
        }
        #expect(throws: Never.self) { try plan("05:00.0", change: some(1048)) }
        expectRefused(
            .host, "23 are free beside the machine's memory; sysctl vm.nr_hugepages=1101", "05:00.0", change: some(1047)
        )
        // Frames of interfaces are in ordinary memory.
        #expect(throws: Never.self) { try plan("if:p1", change: some(1024)) }
    }

    @Test func theMarkReadsBack() throws {
        let mark = NICMark(
            machine: "a.b", host: "h", driver: nil, interfaces: [.init(name: "x", isUp: false)], iommuType: "DMA-FQ")
        #expect(NICMark(mark.text) == mark)
        #expect(NICMark("vfio-pci") == nil && NICMark("") == nil)
    }
}
