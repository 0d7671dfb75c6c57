import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import System
@testable import TestSupport
@testable import Values

/// HostFacts are read from made-up folders: hosts that no test machine has.
@Suite struct FactsTests {
    private let scratch = Scratch()
    private var tree: FileTree { scratch.tree }

    @Test func namesSandyBridge() {
        _ = scratch.file(
            "proc/cpuinfo",
            """
            processor\t: 0
            vendor_id\t: GenuineIntel
            cpu family\t: 6
            model\t\t: 45
            model name\t: Intel(R) Xeon(R) CPU E5-2670 0

            processor\t: 1
            model\t\t: 45
            """)
        let cpu = HostFacts.CPU(tree)
        #expect(cpu.isSandyBridge && cpu.count == 2 && cpu.model.contains("E5-2670"))
        _ = scratch.file("proc/cpuinfo", "processor: 0\nvendor_id: AuthenticAMD\ncpu family: 6\nmodel: 45\n")
        #expect(!HostFacts.CPU(tree).isSandyBridge)
    }

    // MARK: As whom QEMU runs

    private func privileges(
        _ map: String?, _ name: String? = nil, range: String? = nil
    ) throws -> HostFacts.Privileges {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nann:x:1000:1000::/:/bin/sh\n"
        _ = scratch.file("etc/passwd", passwd)
        // All rights.
        _ = scratch.file("proc/self/status", "CapEff:\t000001ffffffffff\n")
        for kind in ["uid", "gid"] { _ = scratch.file("proc/self/\(kind)_map", map ?? "") }
        return try HostFacts.Privileges(tree, qemuUser: name, range: range.flatMap { UserRange($0) })
    }

    @Test(.enabled(if: Parts.isRoot, "only root can run programs as others"))
    func eachMachineHasAUserOfItsOwnWhereThereAreSome() throws {
        let whole = "         0          0 4294967295\n"
        #expect(try privileges(whole).ownUsers == .usual)
        #expect(try privileges(nil).ownUsers == .usual)
        #expect(try privileges(whole, range: "5000-5001").ownUsers == UserRange(5000, 5001))
        // A container's: some, hardly any, or one.
        #expect(try privileges("0 100000 65536\n").ownUsers == UserRange(32767, 60000))
        #expect(try privileges("0 100000 65536\n", range: "3000-3999").ownUsers == UserRange(3000, 3999))
        #expect(try privileges("0 1000 1\n1 100000 65536\n").ownUsers == UserRange(32768, 60000))
        let alone = try privileges("0 1000 1\n")
        #expect(alone.ownUsers == nil && alone.qemuUser == .root)
        // Who names one has that one.
        let named = try privileges(whole, "ann")
        #expect(named.ownUsers == nil && named.qemuUser == User(uid: 1000, gid: 1000))
        #expect(try privileges(whole, "root").qemuUser == .root)
        for (name, range) in [("ann", nil), (nil, "5000-5001")] as [(String?, String?)] {
            let failure = expectThrown(Failure.self) { try privileges("0 1000 1\n", name, range: range) }
            #expect(failure?.kind == .usage && failure?.cause.contains("not mapped") == true)
        }
    }

    @Test func theOrderOfUsersFollowsFromTheName() {
        let range = UserRange(100, 103)
        #expect(Set(range.inOrder(for: "a")) == [100, 101, 102, 103])
        #expect(range.inOrder(for: "a") == range.inOrder(for: "a"))
        let starts = Set((0..<64).map { UserRange.usual.inOrder(for: "vm\($0)")[0] })
        #expect(starts.count > 60 && starts.allSatisfy { 1_900_000_000...1_900_065_535 ~= $0 })
        for text in ["", "5", "0-5", "5-4", "a-b", "1-2-3", "-1", "1-4294967295"] { #expect(UserRange(text) == nil) }
        #expect(UserRange("1-4294967294") != nil)
    }

    // MARK: The host

    @Test func knowsWhenKVMCannotRunGuests() {
        #expect(HostFacts.KVM(tree).state == .absent)
        _ = scratch.file("dev/kvm", "")
        _ = scratch.file("sys/module/kvm/x", "")
        _ = scratch.file("sys/module/kvm_pvm/x", "")
        #expect(HostFacts.KVM(tree).state == .cannotRunGuests)
        _ = scratch.file("sys/module/kvm_intel/x", "")
        #expect(HostFacts.KVM(tree).state == .usable)
        chmod("\(scratch.path)/dev/kvm", 0o660)
        #expect(HostFacts.KVM(tree).group != nil)
        chmod("\(scratch.path)/dev/kvm", 0o600)
        #expect(HostFacts.KVM(tree).group == nil)
    }

    @Test func countsHugepagesByNodeAndSize() {
        for (node, total, free) in [(0, 10, 4), (10, 20, 20), (2, 0, 0)] {
            let folder = "sys/devices/system/node/node\(node)/hugepages/hugepages-2048kB"
            _ = scratch.file("\(folder)/nr_hugepages", "\(total)\n")
            _ = scratch.file("\(folder)/free_hugepages", "\(free)\n")
        }
        _ = scratch.file("sys/devices/system/node/has_cpu", "0-1\n")
        let pools = HostFacts.HugepagePool.all(tree)
        #expect(pools.map(\.node) == [0, 2, 10])
        #expect(pools.map(\.free) == [4, 0, 20])
    }

    @Test func countsHugepagesWithoutNodes() {
        _ = scratch.file("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "3\n")
        let pools = HostFacts.HugepagePool.all(tree)
        #expect(pools == [.init(node: nil, pageSize: .mebibytes(1024), total: 3, free: 0)])
    }

    @Test func findsWhereHugetlbfsIsMounted() {
        _ = scratch.file("proc/mounts", "proc /proc proc rw 0 0\nnone /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n")
        #expect(HostFacts.HugepagePool.mounts(tree) == ["/dev/hugepages (rw,pagesize=2M)"])
    }

    @Test func readsMemoryAndItsLimit() {
        _ = scratch.file("proc/meminfo", "MemTotal:  8388608 kB\nMemAvailable:  4194304 kB\n")
        #expect(HostFacts.Memory(tree).available == .mebibytes(4096))
        #expect(HostFacts.Memory(tree).limit == nil)
        _ = scratch.file("sys/fs/cgroup/memory.max", "max\n")
        #expect(HostFacts.Memory(tree).limit == nil)
        _ = scratch.file("sys/fs/cgroup/memory.max", "1073741824\n")
        #expect(HostFacts.Memory(tree).limit == .mebibytes(1024))
    }

    private func addNIC(
        _ address: String, id: (Int, Int), deviceClass: Int = 0x020000, command: UInt8 = 0
    ) {
        let folder = "sys/bus/pci/devices/\(address)"
        _ = scratch.file("\(folder)/vendor", "0x\(String(id.0, radix: 16))\n")
        _ = scratch.file("\(folder)/device", "0x\(String(id.1, radix: 16))\n")
        _ = scratch.file("\(folder)/class", "0x\(hexadecimal(UInt64(deviceClass), digits: 6))\n")
        _ = scratch.file("\(folder)/resource", "")
        var config = [UInt8](repeating: 0, count: 64)
        (config[0], config[1]) = (UInt8(id.0 & 0xff), UInt8(id.0 >> 8))
        config[4] = command
        (config[2], config[3]) = (UInt8(id.1 & 0xff), UInt8(id.1 >> 8))
        scratch.file("\(folder)/config", config)
    }

    @Test func listsNICsByLibpci() throws {
        addNIC("0000:05:00.0", id: (0x8086, 0x10fb))
        addNIC("0000:01:00.0", id: (0x14e4, 0x165f))
        addNIC("0000:00:02.0", id: (0x1234, 0x1111), deviceClass: 0x030000)
        let folder = "sys/bus/pci/devices/0000:05:00.0"
        _ = scratch.file("\(folder)/numa_node", "1\n")
        _ = scratch.folder("\(folder)/net/ens1f0")
        scratch.link("\(folder)/driver", to: "../../../bus/pci/drivers/ixgbe")
        scratch.link("\(folder)/iommu_group", to: "../../../kernel/iommu_groups/17")
        let nics = try HostFacts.NIC.all(tree)
        #expect(nics.map(\.address) == ["0000:01:00.0", "0000:05:00.0"])
        let nic = try #require(nics.last)
        #expect(nic.id == "8086:10fb" && nic.driver == "ixgbe" && nic.iommuGroup == 17 && nic.numaNode == 1)
        #expect(nic.interfaces == ["ens1f0"] && nic.snabbDriver != nil)
        #expect(nics.first?.snabbDriver == nil)
    }

    /// As a driver has it, without one, left behind by a killed switch, and in the hands of vfio.
    @Test func tellsTheStatesOfAnNIC() throws {
        for (function, driver, command, override) in [
            (0, "ixgbe", 7, "(null)"), (1, "", 3, "(null)"),
            (2, "", 7, "snabbvm machine=vm host=3f2a driver=ixgbe up=ens1f0 iommu=DMA-FQ"),
            (3, "vfio-pci", 3, "vfio-pci"),
        ] {
            addNIC("0000:05:00.\(function)", id: (0x8086, 0x10fb), command: UInt8(command))
            let folder = "sys/bus/pci/devices/0000:05:00.\(function)"
            if !driver.isEmpty { scratch.link("\(folder)/driver", to: "../../../bus/pci/drivers/\(driver)") }
            _ = scratch.file("\(folder)/driver_override", "\(override)\n")
            _ = scratch.file("\(folder)/numa_node", "-1\n")
        }
        _ = scratch.folder("sys/bus/pci/devices/0000:05:00.1/virtio3/net/eth7")
        let nics = try HostFacts.NIC.all(tree)
        #expect(nics.map(\.driver) == ["ixgbe", nil, nil, "vfio-pci"])
        #expect(nics.map(\.isBusMaster) == [true, false, true, false])
        #expect(nics.map(\.override) == [nil, nil, nics[2].mark?.text, "vfio-pci"])
        #expect(nics[2].mark?.interfaces == [.init(name: "ens1f0", isUp: true)])
        #expect(nics[2].mark?.iommuType == "DMA-FQ")
        #expect(nics.map(\.numaNode) == [nil, nil, nil, nil])
        #expect(nics[1].interfaces == ["eth7"])
    }

    @Test func listsOtherFunctionsWhereAsked() throws {
        addNIC("0000:00:02.0", id: (0x1234, 0x1111), deviceClass: 0x030000)
        #expect(try HostFacts.NIC.all(tree).isEmpty)
        #expect(try HostFacts.NIC.all(tree, and: ["0000:00:02.0"]).map(\.isNIC) == [false])
    }

    @Test func knowsWhoUsesAnIOMMUGroup() {
        for (device, driver) in [("0000:00:01.0", "pcieport"), ("0000:05:00.0", "ixgbe"), ("0000:05:00.1", "vfio-pci")]
        {
            scratch.link("sys/kernel/iommu_groups/7/devices/\(device)", to: "x")
            scratch.link("sys/bus/pci/devices/\(device)/driver", to: "../../../bus/pci/drivers/\(driver)")
        }
        _ = scratch.file("sys/kernel/iommu_groups/7/type", "DMA-FQ\n")
        let group = HostFacts.IOMMU(tree).groups.first
        #expect(group?.isTranslated == true && group?.devices.count == 3)
        #expect(group?.inUse == ["0000:05:00.0"])
    }

    @Test func seesWhoNeedsAnInterface() {
        for (name, flags) in [("eth0", "0x1003"), ("eth1", "0x1002"), ("br0", "0x1003")] {
            _ = scratch.file("sys/class/net/\(name)/flags", "\(flags)\n")
        }
        _ = scratch.file("sys/class/net/eth0/carrier", "1\n")
        scratch.link("sys/class/net/eth1/upper_br0", to: "../br0")
        _ = scratch.file(
            "proc/self/net/route",
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nbr0\t00000000\t0101A8C0\t3\t0\t0\t0\t00000000\n"
                + "eth0\t0000A8C0\t00000000\t1\t0\t0\t0\t00FFFFFF\n")
        let zeros = String(repeating: "0", count: 32)
        _ = scratch.file(
            "proc/self/net/ipv6_route",
            "\(zeros) 00 \(zeros) 00 \(zeros) ffffffff 00000001 00000000 00200200 lo\n"
                + "\(zeros) 00 \(zeros) 00 \(zeros) 00000400 00000001 00000000 00000003 eth0\n")
        let interfaces = HostFacts.Interface.all(tree)
        #expect(interfaces.map(\.name) == ["br0", "eth0", "eth1"])
        #expect(interfaces.map(\.isUp) == [true, true, false])
        #expect(interfaces.map(\.hasLink) == [nil, true, nil])
        #expect(interfaces.map(\.uppers) == [[], [], ["br0"]])
        #expect(interfaces.map(\.hasDefaultRoute) == [true, true, false])
    }

    @Test func readsTheProcessors() {
        _ = scratch.file("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-2,5\n")
        _ = scratch.file("sys/devices/system/cpu/isolated", "5\n")
        _ = scratch.file("sys/devices/system/node/node0/cpulist", "0-3\n")
        _ = scratch.file("sys/devices/system/node/node1/cpulist", "4-7\n")
        _ = scratch.file("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,4\n")
        let topology = HostFacts.Topology(tree)
        #expect(topology.allowed == [0, 1, 2, 5] && topology.isolated == [5])
        // The kernel leaves isolated ones out; some are switched off, some another container's.
        _ = scratch.file("sys/devices/system/cpu/isolated", "5-6\n")
        _ = scratch.file("sys/devices/system/cpu/online", "1-6\n")
        _ = scratch.file("sys/fs/cgroup/cpuset.cpus.effective", "0-1,6\n")
        #expect(HostFacts.Topology(tree).allowed == [1, 6])
        #expect(topology.nodes[1] == [4, 5, 6, 7] && topology.node(of: 5) == 1)
        #expect(topology.siblings == [0: [0, 4]])
    }

    @Test func listsMoreDevicesThanExpected() throws {
        for device in 0..<300 {
            let bus = hexadecimal(UInt64(device / 32), digits: 2)
            addNIC("0000:\(bus):\(hexadecimal(UInt64(device % 32), digits: 2)).0", id: (0x8086, 0x10fb))
        }
        #expect(try HostFacts.NIC.all(tree).count == 300)
    }

    /// libpci would end the whole program here.
    @Test func survivesABrokenTree() {
        addNIC("0000:05:00.0", id: (0x8086, 0x10fb))
        _ = scratch.file("sys/bus/pci/devices/0000:05:00.0/vendor", "no number\n")
        _ = scratch.folder("sys/bus/pci/devices/not-an-address")
        let failure = expectThrown(Failure.self) { try HostFacts.NIC.all(tree) }
        #expect(failure?.kind == .host)
    }

    @Test func tellsTheTruthAboutTheIOMMU() {
        #expect(HostFacts.IOMMU(tree).units == [])
        _ = scratch.file("proc/cmdline", "quiet intel_iommu=off\n")
        #expect(HostFacts.IOMMU(tree).asked == ["intel_iommu=off"])
        _ = scratch.folder("sys/class/iommu/dmar0")
        _ = scratch.file("sys/kernel/iommu_groups/3/type", "DMA-FQ\n")
        _ = scratch.folder("sys/kernel/iommu_groups/3/devices/0000:05:00.0")
        _ = scratch.file("sys/kernel/iommu_groups/12/type", "identity\n")
        let iommu = HostFacts.IOMMU(tree)
        #expect(iommu.groups.map(\.number) == [3, 12])
        #expect(iommu.groups[0].devices == ["0000:05:00.0"] && iommu.isTranslating)
    }

    @Test func checkNamesTheMend() throws {
        var facts = Samples.facts
        facts.tools.qemuImg = nil
        facts.tools.xorriso = nil
        facts.kvm = .init(state: .absent)
        facts.iommu = .init(units: ["dmar0"], groups: [.init(number: 1, type: "DMA", devices: [])])
        facts.cpu.isSandyBridge = true
        let check = { (words: [String]) throws -> Check in
            let arguments = try Parser.parse(["check"] + words, environment: [:])
            return Check(
                facts, versions: [:], memoryWanted: arguments.memory, freeSpace: .mebibytes(10), scratch: "/x",
                whyUser: nil,
                refusals: MachinePlanner.refusals(arguments, facts))
        }
        #expect(try !check([]).isFit)
        let mends = try check([]).lines.compactMap(\.mend).joined(separator: "\n")
        for words in [
            "apt-get install qemu-utils", "apt-get install xorriso", "modprobe kvm_intel", "vm.nr_hugepages=1024",
            "intel_iommu=off", "--scratch",
        ] {
            #expect(mends.contains(words))
        }
        facts.tools.qemuImg = "/usr/bin/qemu-img"
        #expect(try check([]).isFit)
        // What a start would be refused for makes the host unfit for it.
        for words in [["-m", "1000G"], ["--accel", "kvm"], ["--hugepages", "required"]] {
            #expect(try !check(words).isFit, "\(words)")
        }
    }
}
