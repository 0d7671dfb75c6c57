/// What the host is, as far as a plan depends on it.
struct HostFacts: Codable, Equatable {
    var cpu: CPU
    var kvm: KVM
    var memory: Memory
    var hugepages: [HugepagePool]
    /// Where hugetlbfs is mounted, with the options that say its page size.
    var hugetlbfs: [String]
    var privileges: Privileges
    var tools: Tools
    // What only ports, and who lists the host, need to know.
    var iommu: IOMMU?
    var nics: [NIC]?
    var interfaces: [Interface]?
    var topology: Topology?
    /// Only what the machine's own NICs need to know.
    var network: Network?
    var pciAccess: PCIAccess?

    struct CPU: Codable, Equatable {
        var model: String
        var count: Int
        /// Its IOMMU corrupts what Snabb's DMA does, so it must be off there.
        var isSandyBridge: Bool
    }

    struct KVM: Codable, Equatable {
        enum State: String, Codable { case usable, absent, notPermitted, cannotRunGuests }
        var state: State
        /// Who must QEMU be to open it: the group of the device, anyone, or root alone.
        var group: UInt32?
        var forAnyone = false
        var modules: [String] = []
    }

    struct Memory: Codable, Equatable {
        var total: ByteCount
        var available: ByteCount
        /// What the container may use, if that is limited.
        var limit: ByteCount?
    }

    struct HugepagePool: Codable, Equatable {
        var node: Int?
        var pageSize: ByteCount
        var total: Int
        var free: Int
    }

    struct Privileges: Codable, Equatable {
        var uid: UInt32
        var inContainer: Bool
        /// Below this port number only root may listen.
        var firstUnprivilegedPort: Int
        var capabilities: UInt64
        /// Whether /dev/net/tun opens, without which there are no taps.
        var hasTun = true
        /// As which QEMU is to run, when it is not to have the rights of who started us.
        var qemuUser: User?
    }

    struct Tools: Codable, Equatable {
        var qemu: String?
        var qemuImg: String?
        var xorriso: String?
        var tmux: String?
        var cp: String?
        var snabb: String?
        var ip: String?
        var nft: String?
        var dnsmasq: String?
        var passt: String?
        var testpmd: String?
        var firmwareCode: String?
        var firmwareVariables: String?
    }
}
