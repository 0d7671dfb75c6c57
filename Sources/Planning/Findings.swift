import Model
import Values

/// What was found of that which a plan depends on beside the host: the user's files, kept disks, addresses, ports.
/// Complete when it is made.
package struct Findings {
    package var folders: MachinePaths
    package var image: DiskImage?
    package var cdrom: DiskImage?
    package var kernel: String?
    package var initrd: String?
    /// Files that QEMU opens by name, and that only their owner may read.
    package var privateFiles: [String] = []
    package var seed = SeedSources()
    /// What an earlier start left in the --state folder.
    package var record: MachineRecord?
    package var hasKeptDisk = false
    package var hasKeptVariables = false
    package var secretFile: String?
    package var hasVNCPassword = false
    package var diskSpace: ByteCount?
    /// Addresses that were found to be free; and who has those that were asked for.
    package var addresses: [AddressPlace: IPAddress] = [:]
    package var holders: [IPAddress: String] = [:]
    /// Another DHCP server than ours is in this network namespace.
    package var isDHCPTaken = false
    /// passt is there and can run here.
    package var hasPasst = false
    /// A TCP port of 127.0.0.1 that can lead to the guest's SSH server.
    package var freeListener: Int?
    /// Where nobody can listen any more, and why.
    package var takenListeners: [(address: SocketAddress, why: String)] = []
    /// The ports, those of the file too.
    package var ports: [PortRequest] = []
    package var portsFile: String?
    /// Where the launcher itself is, and where the switches' programs are.
    package var programPath = "/proc/self/exe"
    package var switchFolder = "/usr/local/share/snabbvm/switch"
    /// What this host or container calls itself; and what tells it from others, for names that must differ between
    /// them.
    package var hostName = "localhost"
    package var hostKey = ""

    package init(
        folders: MachinePaths, image: DiskImage? = nil, cdrom: DiskImage? = nil, kernel: String? = nil,
        initrd: String? = nil, privateFiles: [String] = [], seed: SeedSources = SeedSources(),
        record: MachineRecord? = nil, hasKeptDisk: Bool = false, hasKeptVariables: Bool = false,
        secretFile: String? = nil, hasVNCPassword: Bool = false, diskSpace: ByteCount? = nil,
        addresses: [AddressPlace: IPAddress] = [:], holders: [IPAddress: String] = [:], isDHCPTaken: Bool = false,
        hasPasst: Bool = false, freeListener: Int? = nil, takenListeners: [(address: SocketAddress, why: String)] = [],
        ports: [PortRequest] = [], portsFile: String? = nil, programPath: String = "/proc/self/exe",
        switchFolder: String = "/usr/local/share/snabbvm/switch", hostName: String = "localhost", hostKey: String = ""
    ) {
        self.folders = folders
        self.image = image
        self.cdrom = cdrom
        self.kernel = kernel
        self.initrd = initrd
        self.privateFiles = privateFiles
        self.seed = seed
        self.record = record
        self.hasKeptDisk = hasKeptDisk
        self.hasKeptVariables = hasKeptVariables
        self.secretFile = secretFile
        self.hasVNCPassword = hasVNCPassword
        self.diskSpace = diskSpace
        self.addresses = addresses
        self.holders = holders
        self.isDHCPTaken = isDHCPTaken
        self.hasPasst = hasPasst
        self.freeListener = freeListener
        self.takenListeners = takenListeners
        self.ports = ports
        self.portsFile = portsFile
        self.programPath = programPath
        self.switchFolder = switchFolder
        self.hostName = hostName
        self.hostKey = hostKey
    }
}

/// What --state keeps beside the disk: who the machine is, and what its disk stands on.
package struct MachineRecord: Codable, Equatable {
    package var uuid: String
    package var image: DiskImage?
    package var diskFormat: DiskFormat?
    package var diskSize: ByteCount?
    package var isOverlay: Bool
    /// As the disk itself says.
    package var isEncrypted: Bool?

    package init(
        uuid: String, image: DiskImage?, diskFormat: DiskFormat?, diskSize: ByteCount? = nil, isOverlay: Bool
    ) {
        self.uuid = uuid
        self.image = image
        self.diskFormat = diskFormat
        self.diskSize = diskSize
        self.isOverlay = isOverlay
    }
}
