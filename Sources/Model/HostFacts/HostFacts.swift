import Values

/// What the host is, as far as a plan depends on it.
package struct HostFacts: Codable, Equatable {
    package var cpu: CPU
    package var kvm: KVM
    package var memory: Memory
    package var hugepages: [HugepagePool]
    /// Where hugetlbfs is mounted, with the options that say its page size.
    package var hugetlbfs: [String]
    package var privileges: Privileges
    package var tools: Tools
    // What only ports, and who lists the host, need to know.
    package var iommu: IOMMU?
    package var nics: [NIC]?
    package var interfaces: [Interface]?
    package var topology: Topology?
    /// Only what the machine's own NICs need to know.
    package var network: Network?
    package var pciAccess: PCIAccess?

    package init(
        cpu: CPU, kvm: KVM, memory: Memory, hugepages: [HugepagePool], hugetlbfs: [String], privileges: Privileges,
        tools: Tools
    ) {
        self.cpu = cpu
        self.kvm = kvm
        self.memory = memory
        self.hugepages = hugepages
        self.hugetlbfs = hugetlbfs
        self.privileges = privileges
        self.tools = tools
    }

    package struct CPU: Codable, Equatable {
        package var model: String
        package var count: Int
        /// Its IOMMU corrupts what Snabb's DMA does, so it must be off there.
        package var isSandyBridge: Bool

        package init(model: String, count: Int, isSandyBridge: Bool) {
            self.model = model
            self.count = count
            self.isSandyBridge = isSandyBridge
        }
    }

    package struct KVM: Codable, Equatable {
        package enum State: String, Codable { case usable, absent, notPermitted, cannotRunGuests }
        package var state: State
        /// Who must QEMU be to open it: the group of the device, anyone, or root alone.
        package var group: UInt32?
        package var forAnyone = false
        package var modules: [String] = []

        package init(state: State) { self.state = state }
    }

    package struct Memory: Codable, Equatable {
        package var total: ByteCount
        package var available: ByteCount
        /// What the container may use, if that is limited.
        package var limit: ByteCount?

        package init(total: ByteCount, available: ByteCount) {
            self.total = total
            self.available = available
        }
    }

    package struct HugepagePool: Codable, Equatable {
        package var node: Int?
        package var pageSize: ByteCount
        package var total: Int
        package var free: Int

        package init(node: Int?, pageSize: ByteCount, total: Int, free: Int) {
            self.node = node
            self.pageSize = pageSize
            self.total = total
            self.free = free
        }
    }

    package struct Privileges: Codable, Equatable {
        package var uid: UInt32
        package var inContainer = false
        /// Below this port number only root may listen.
        package var firstUnprivilegedPort = 1024
        package var capabilities: UInt64 = 0
        /// How much memory anybody may keep in place; nil for all.
        package var lockableMemory: UInt64?
        /// Whether /dev/net/tun opens, without which there are no taps.
        package var hasTun = true
        /// As which QEMU is to run, where the launcher is root; otherwise as who started it, who has no rights.
        package var qemuUser: User?
        /// Of whom each machine has one for its QEMU, in place of that.
        package var ownUsers: UserRange?

        package init(uid: UInt32) { self.uid = uid }
    }

    package struct Tools: Codable, Equatable {
        package var qemu: String?
        package var qemuImg: String?
        package var xorriso: String?
        package var tmux: String?
        package var cp: String?
        package var snabb: String?
        package var ip: String?
        package var nft: String?
        package var dnsmasq: String?
        package var passt: String?
        package var testpmd: String?
        package var firmwareCode: String?
        package var firmwareVariables: String?

        package init() {}
    }
}
