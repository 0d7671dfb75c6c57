/// What the user asked for: the command line over the environment over the defaults.
struct Arguments: Equatable {
    var verb = Verb.run
    var image: String?
    var ports: [PortRequest] = []
    var portsFile: String?
    /// Takes a NIC that is in use, or that another machine left behind.
    var forcePort = false
    /// Processors that the switches may have.
    var switchCPUs: [Int] = []
    /// How often in a row a switch may fail before the machine is up.
    var switchRetries = 5
    /// What follows a verb that takes no image: a stream for `console`.
    var operand: String?
    /// What `ssh` is to run in the guest, as whom, and with which key.
    var command: [String] = []
    var login: String?
    var identity: String?
    /// How often to try, where that was said.
    var attempts: Int?
    /// The NICs that `release` gives back.
    var addresses: [PCIAddress] = []

    var memory = ByteCount.mebibytes(2048)
    var cpus = 1
    var hugepages = HugepageChoice.auto
    var accelerator = AcceleratorChoice.auto
    var cpuModel: String?
    var chipset = Chipset.q35
    var firmware = Firmware.bios

    var diskSize: ByteCount?
    var format: DiskFormat?
    var copy = false
    var lazy = false
    var secretFile: String?
    var cdrom: String?
    var diskBus = DiskBus.virtio
    var kernel: String?
    var initrd: String?
    var append: String?

    var userData: String?
    var metaData: String?
    var networkConfig: String?
    var hostname: String?
    var sshKeys: [String] = []
    var seedLabel = SeedLabel.cidata

    /// nil for what fits where the launcher runs.
    var net: NetworkMode?
    /// The bridge that is there already.
    var bridge: String?
    /// The container's interface that is the machine's eth0.
    var interface: String?
    var address: AddressRequest?
    var nics: [GuestNICRequest] = []
    var netAll = false
    /// Whether the guest is given unfinished checksums.
    var nicOffload = false
    var userNet = UserNetwork.slirp
    var nicModel = "virtio-net-pci"
    var mac: MACAddress?
    var published: [PublishedPort] = []

    var vnc: VNCChoice?
    var vncPasswordFile: String?

    var name = "vm"
    var nameIsGiven = false
    var state: String?
    var scratch: String?
    var runFolder: String?
    var shareFolder: String?
    var stopTimeout = 60.0

    var qemu = "qemu-system-x86_64"
    var qemuArguments: [String] = []
    var qemuUser = "nobody"

    /// How images are fetched.
    var web = WebSettings()
    var cache: String?
    var checksum: String?
    var keyring: String?
    var member: String?
    var maxSize: ByteCount?
    var catalog: String?
    /// What `images` is to do, and with which.
    var imagesVerb = ImagesVerb.ls
    var images: [String] = []

    var dryRun = false
    var json = false
    var verbosity = Verbosity.normal
    var now = false
    var all = false
    /// `release` drops what it can't read in the ledger.
    var forget = false
    var watch = false
    var health = false
}

enum Verb: String, CaseIterable {
    case run, demo, images, check, nics, status, ports, stop, console, ssh, release, completion, manual, help, version
    /// What the tmux windows run: one stream of the machine on the window's terminal.
    case relay
    /// What the launcher runs to bring an image: the transfer, a digest beside it, and an unpacker.
    case fetch, digest, unpack
}

/// What each machine shows, beside its ports: each a window in tmux.
enum StreamName: String, CaseIterable, Codable { case screen, serial, log }

enum ImagesVerb: String, CaseIterable { case ls, pull, rm, verify }

enum HugepageChoice: Equatable {
    case auto, off, required
    case size(ByteCount)
}

enum AcceleratorChoice: String, CaseIterable, Codable { case auto, kvm, tcg }
enum Chipset: String, CaseIterable, Codable { case q35, pc }
enum Firmware: String, CaseIterable, Codable { case bios, uefi }
enum DiskFormat: String, CaseIterable, Codable { case qcow2, raw, iso, vmdk, vhdx, vpc, vdi, parallels }
enum DiskBus: String, CaseIterable, Codable { case virtio, scsi, sata }
enum SeedLabel: String, CaseIterable, Codable {
    case cidata
    case config2 = "config-2"
}
/// What plays the network where no rights are needed: QEMU itself (slirp), or passt.
enum UserNetwork: String, CaseIterable, Codable { case slirp, passt }

enum VNCChoice: Equatable {
    case off
    case at(SocketAddress)
}
