@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import Supervision
@testable import System
@testable import Values

extension HostFacts.KVM {
    init(_ state: State, group: UInt32? = nil, modules: [String]) {
        self.init(state: state)
        (self.group, self.modules) = (group, modules)
    }
}

extension HostFacts.Interface {
    init(name: String, isUp: Bool, uppers: [String] = [], hasDefaultRoute: Bool) {
        self.init(name: name)
        (self.isUp, self.uppers, self.hasDefaultRoute) = (isUp, uppers, hasDefaultRoute)
    }
}

extension HostFacts.Address {
    init(address: NetworkAddress, words: [String], label: String? = nil) {
        self.init(address: address)
        (self.words, self.label) = (words, label)
    }
}

extension HostFacts.Route {
    init(family: IPAddress.Family, destination: NetworkAddress, gateway: IPAddress, device: String, words: [String]) {
        self.init(family: family, destination: destination, device: device)
        (self.gateway, self.words) = (gateway, words)
    }
}

extension HostFacts.IOMMU {
    init(units: [String], groups: [Group]) {
        self.init()
        (self.units, self.groups) = (units, groups)
    }
}

/// A host and a machine to vary in tests.
enum Samples {
    private static var tools: HostFacts.Tools {
        var tools = HostFacts.Tools()
        (tools.qemu, tools.qemuImg) = ("/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-img")
        (tools.xorriso, tools.tmux, tools.cp) = ("/usr/bin/xorriso", "/usr/bin/tmux", "/bin/cp")
        (tools.firmwareCode, tools.firmwareVariables) = ("/usr/share/OVMF/CODE.fd", "/usr/share/OVMF/VARS.fd")
        return tools
    }

    static var facts: HostFacts {
        var privileges = HostFacts.Privileges(uid: 0)
        privileges.capabilities = .max
        privileges.qemuUser = User(uid: 65534, gid: 65534)
        return HostFacts(
            cpu: .init(model: "Sample CPU", count: 8, isSandyBridge: false),
            kvm: .init(.usable, group: 108, modules: ["kvm", "kvm_intel"]),
            memory: .init(total: .mebibytes(16384), available: .mebibytes(12000)),
            hugepages: [], hugetlbfs: [],
            privileges: privileges, tools: tools)
    }

    static var image: DiskImage {
        DiskImage(
            path: "/u/disk.qcow2", format: .qcow2, virtualSize: .mebibytes(4096), isBlockDevice: false, fileSize: 1000,
            allocated: 1000,
            modified: 7)
    }

    static func nic(_ address: PCIAddress, id: String = "8086:10fb", node: Int? = nil, group: Int? = nil)
        -> HostFacts.NIC
    {
        var nic = HostFacts.NIC(
            address: address, id: id, name: "Sample NIC", deviceClass: "0200", interfaces: ["p\(address.function)"])
        (nic.driver, nic.iommuGroup, nic.numaNode) = ("ixgbe", group, node)
        return nic
    }

    /// The same host with two ports of an 82599 and two nodes of four processors.
    static var factsWithNICs: HostFacts {
        var facts = facts
        facts.nics = [nic("0000:05:00.0", node: 1), nic("0000:05:00.1", node: 1)]
        facts.interfaces = ["p0", "p1", "eth0", "lo", "p2"].map {
            .init(name: $0, isUp: $0 == "p0", hasDefaultRoute: $0 == "eth0")
        }
        facts.iommu = .init()
        var topology = HostFacts.Topology(allowed: Array(0...7))
        topology.nodes = [0: [0, 1, 2, 3], 1: [4, 5, 6, 7]]
        topology.siblings = Dictionary(uniqueKeysWithValues: (0...7).map { ($0, [$0]) })
        facts.topology = topology
        var access = HostFacts.PCIAccess(sysfs: .allowed)
        (access.hasVFIO, access.hasVFIODriver) = (true, true)
        facts.pciAccess = access
        facts.hugepages = [
            .init(node: 0, pageSize: .mebibytes(2), total: 2048, free: 2048),
            .init(node: 1, pageSize: .mebibytes(2), total: 2048, free: 2048),
        ]
        facts.tools.snabb = "/usr/bin/snabb"
        facts.tools.testpmd = "/usr/bin/dpdk-testpmd"
        return facts
    }

    static func plan(
        _ words: String..., facts: HostFacts = facts, change: (inout Findings) -> Void = { _ in }
    ) throws -> Plan {
        try plan(words, facts: facts, change: change)
    }

    static func plan(
        _ words: [String], facts: HostFacts = facts, change: (inout Findings) -> Void = { _ in }
    ) throws -> Plan {
        let arguments = try Parser.parse(words.isEmpty ? ["/u/disk.qcow2"] : words, environment: [:])
        var findings = Findings(folders: MachinePaths(arguments, uid: 0))
        findings.image = arguments.image == nil ? nil : image
        findings.programPath = "/usr/bin/snabbvm"
        findings.ports = arguments.ports
        findings.hostName = "host"
        change(&findings)
        return try MachinePlanner.plan(arguments, facts, Wishes(arguments, facts), findings)
    }
}
