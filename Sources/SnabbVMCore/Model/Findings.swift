/// What was found of that which a plan depends on beside the host: the user's files, kept disks, addresses, ports. Complete
/// when it is made.
struct Findings {
    var folders: MachinePaths
    var image: DiskImage?
    var cdrom: DiskImage?
    var kernel: String?
    var initrd: String?
    /// Files that QEMU opens by name, and that only their owner may read.
    var privateFiles: [String] = []
    var seed = SeedSources()
    /// What an earlier start left in the --state folder.
    var record: MachineRecord?
    var hasKeptDisk = false
    var hasKeptVariables = false
    var secretFile: String?
    var hasVNCPassword = false
    var diskSpace: ByteCount?
    /// Addresses that were found to be free; and who has those that were asked for.
    var addresses: [AddressPlace: IPAddress] = [:]
    var holders: [IPAddress: String] = [:]
    /// Another DHCP server than ours is in this network namespace.
    var isDHCPTaken = false
    /// passt is there and can run here.
    var hasPasst = false
    /// A TCP port of 127.0.0.1 that can lead to the guest's SSH server.
    var freeListener: Int?
    /// Where nobody can listen any more, and why.
    var takenListeners: [(address: SocketAddress, why: String)] = []
    /// The ports, those of the file too.
    var ports: [PortRequest] = []
    var portsFile: String?
    /// Where the launcher itself is, and where the switches' programs are.
    var programPath = "/proc/self/exe"
    var switchFolder = "/usr/local/share/snabbvm/switch"
    /// What this host or container calls itself; and what tells it from others, for names that must differ between them.
    var hostName = "localhost"
    var hostKey = ""
}

/// Where an address is looked for.
struct AddressPlace: Hashable {
    var interface: String
    var family: IPAddress.Family

    init(_ interface: String, _ family: IPAddress.Family) {
        self.interface = interface
        self.family = family
    }
}
