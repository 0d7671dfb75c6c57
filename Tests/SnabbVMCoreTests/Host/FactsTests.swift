import Foundation
import Testing

@testable import SnabbVMCore

/// Facts are read from made-up folders: hosts that no test machine has.
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
        let cpu = Facts.CPU(tree)
        #expect(cpu.isSandyBridge && cpu.count == 2 && cpu.model.contains("E5-2670"))
        _ = scratch.file("proc/cpuinfo", "processor: 0\nvendor_id: AuthenticAMD\ncpu family: 6\nmodel: 45\n")
        #expect(!Facts.CPU(tree).isSandyBridge)
    }

    @Test func knowsWhenKVMCannotRunGuests() {
        #expect(Facts.KVM(tree).state == .absent)
        _ = scratch.file("dev/kvm", "")
        _ = scratch.file("sys/module/kvm/x", "")
        _ = scratch.file("sys/module/kvm_pvm/x", "")
        #expect(Facts.KVM(tree).state == .cannotRunGuests)
        _ = scratch.file("sys/module/kvm_intel/x", "")
        #expect(Facts.KVM(tree).state == .usable)
        chmod("\(scratch.path)/dev/kvm", 0o660)
        #expect(Facts.KVM(tree).group != nil)
        chmod("\(scratch.path)/dev/kvm", 0o600)
        #expect(Facts.KVM(tree).group == nil)
    }

    @Test func countsHugepagesByNodeAndSize() {
        for (node, total, free) in [(0, 10, 4), (10, 20, 20), (2, 0, 0)] {
            let folder = "sys/devices/system/node/node\(node)/hugepages/hugepages-2048kB"
            _ = scratch.file("\(folder)/nr_hugepages", "\(total)\n")
            _ = scratch.file("\(folder)/free_hugepages", "\(free)\n")
        }
        _ = scratch.file("sys/devices/system/node/has_cpu", "0-1\n")
        let pools = Facts.HugepagePool.all(tree)
        #expect(pools.map(\.node) == [0, 2, 10])
        #expect(pools.map(\.free) == [4, 0, 20])
    }

    @Test func countsHugepagesWithoutNodes() {
        _ = scratch.file("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "3\n")
        let pools = Facts.HugepagePool.all(tree)
        #expect(pools == [.init(node: nil, pageSize: .mebibytes(1024), total: 3, free: 0)])
    }

    @Test func findsWhereHugetlbfsIsMounted() {
        _ = scratch.file("proc/mounts", "proc /proc proc rw 0 0\nnone /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n")
        #expect(Facts.HugepagePool.mounts(tree) == ["/dev/hugepages (rw,pagesize=2M)"])
    }

    @Test func readsMemoryAndItsLimit() {
        _ = scratch.file("proc/meminfo", "MemTotal:  8388608 kB\nMemAvailable:  4194304 kB\n")
        #expect(Facts.Memory(tree).available == .mebibytes(4096))
        #expect(Facts.Memory(tree).limit == nil)
        _ = scratch.file("sys/fs/cgroup/memory.max", "max\n")
        #expect(Facts.Memory(tree).limit == nil)
        _ = scratch.file("sys/fs/cgroup/memory.max", "1073741824\n")
        #expect(Facts.Memory(tree).limit == .mebibytes(1024))
    }

    private func addNIC(_ address: String, id: (Int, Int), deviceClass: Int = 0x020000) {
        let folder = "sys/bus/pci/devices/\(address)"
        _ = scratch.file("\(folder)/vendor", "0x\(String(id.0, radix: 16))\n")
        _ = scratch.file("\(folder)/device", "0x\(String(id.1, radix: 16))\n")
        _ = scratch.file("\(folder)/class", "0x\(hexadecimal(UInt64(deviceClass), digits: 6))\n")
        _ = scratch.file("\(folder)/resource", "")
        var config = [UInt8](repeating: 0, count: 64)
        (config[0], config[1]) = (UInt8(id.0 & 0xff), UInt8(id.0 >> 8))
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
        let nics = try Facts.NIC.all(tree)
        #expect(nics.map(\.address) == ["0000:01:00.0", "0000:05:00.0"])
        let nic = try #require(nics.last)
        #expect(nic.id == "8086:10fb" && nic.driver == "ixgbe" && nic.iommuGroup == 17 && nic.numaNode == 1)
        #expect(nic.interfaces == ["ens1f0"] && nic.snabbDriver != nil)
        #expect(nics.first?.snabbDriver == nil)
    }

    @Test func listsMoreDevicesThanExpected() throws {
        for device in 0..<300 {
            let bus = hexadecimal(UInt64(device / 32), digits: 2)
            addNIC("0000:\(bus):\(hexadecimal(UInt64(device % 32), digits: 2)).0", id: (0x8086, 0x10fb))
        }
        #expect(try Facts.NIC.all(tree).count == 300)
    }

    /// libpci would end the whole program here.
    @Test func survivesABrokenTree() {
        addNIC("0000:05:00.0", id: (0x8086, 0x10fb))
        _ = scratch.file("sys/bus/pci/devices/0000:05:00.0/vendor", "no number\n")
        _ = scratch.folder("sys/bus/pci/devices/not-an-address")
        let failure = #expect(throws: Failure.self) { try Facts.NIC.all(tree) }
        #expect(failure?.kind == .host)
    }

    @Test func tellsTheTruthAboutTheIOMMU() {
        #expect(Facts.IOMMU(tree).units == [])
        _ = scratch.file("proc/cmdline", "quiet intel_iommu=off\n")
        #expect(Facts.IOMMU(tree).asked == ["intel_iommu=off"])
        _ = scratch.folder("sys/class/iommu/dmar0")
        _ = scratch.file("sys/kernel/iommu_groups/3/type", "DMA-FQ\n")
        _ = scratch.folder("sys/kernel/iommu_groups/3/devices/0000:05:00.0")
        _ = scratch.file("sys/kernel/iommu_groups/12/type", "identity\n")
        let iommu = Facts.IOMMU(tree)
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
                refusals: Plan.refusals(arguments, facts))
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
