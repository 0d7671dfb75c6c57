import Values

/// What the user asked for: the command line over the environment over the defaults.
package struct Arguments: Equatable {
    package var verb = Verb.run
    package var image: String?
    package var ports: [PortRequest] = []
    package var portsFile: String?
    /// Takes a NIC that is in use, or that another machine left behind.
    package var forcePort = false
    /// Processors that the switches may have.
    package var switchCPUs: [Int] = []
    /// How often in a row a switch may fail before the machine is up.
    package var switchRetries = 5
    /// What follows a verb that takes no image: a stream for `console`.
    package var operand: String?
    /// What `ssh` is to run in the guest, as whom, and with which key.
    package var command: [String] = []
    package var login: String?
    package var identity: String?
    /// How often to try, where that was said.
    package var attempts: Int?
    /// The NICs that `release` gives back.
    package var addresses: [PCIAddress] = []

    package var memory = ByteCount.mebibytes(2048)
    package var cpus = 1
    package var hugepages = HugepageChoice.auto
    package var accelerator = AcceleratorChoice.auto
    package var cpuModel: String?
    package var chipset = Chipset.q35
    package var firmware = Firmware.bios

    package var diskSize: ByteCount?
    package var format: DiskFormat?
    package var copy = false
    package var lazy = false
    package var secretFile: String?
    package var cdrom: String?
    package var diskBus = DiskBus.virtio
    package var kernel: String?
    package var initrd: String?
    package var append: String?

    package var userData: String?
    package var metaData: String?
    package var networkConfig: String?
    package var hostname: String?
    package var sshKeys: [String] = []
    package var seedLabel = SeedLabel.cidata

    /// nil for what fits where the launcher runs.
    package var net: NetworkMode?
    /// The bridge that is there already.
    package var bridge: String?
    /// The container's interface that is the machine's eth0.
    package var interface: String?
    package var address: AddressRequest?
    package var nics: [GuestNICRequest] = []
    package var netAll = false
    /// Whether the guest is given unfinished checksums.
    package var nicOffload = false
    package var userNet = UserNetwork.slirp
    package var nicModel = "virtio-net-pci"
    package var mac: MACAddress?
    package var published: [PublishedPort] = []

    package var vnc: VNCChoice?
    package var vncPasswordFile: String?

    package var name = "vm"
    package var nameIsGiven = false
    package var state: String?
    package var scratch: String?
    package var runFolder: String?
    package var shareFolder: String?
    package var stopTimeout = 60.0

    package var qemu = "qemu-system-x86_64"
    package var qemuArguments: [String] = []
    package var qemuUser: String?
    package var uidRange: UserRange?

    /// How images are fetched.
    package var web = WebSettings()
    package var cache: String?
    package var checksum: String?
    package var keyring: String?
    package var member: String?
    package var maxSize: ByteCount?
    package var catalog: String?
    /// What `images` is to do, and with which.
    package var imagesVerb = ImagesVerb.ls
    package var images: [String] = []
    /// What `disk` is to do with the kept disk.
    package var diskVerb = DiskVerb.info
    /// Does what could cost somebody a disk.
    package var force = false

    package var dryRun = false
    package var json = false
    package var verbosity = Verbosity.normal
    package var now = false
    package var all = false
    /// `release` drops what it can't read in the ledger.
    package var forget = false
    package var watch = false
    package var health = false

    package init() {}
}

package enum Verb: String, CaseIterable {
    case run, demo, images, disk, check, nics, status, ports, stop, console, ssh, release, completion, manual, help,
        version
    /// What the tmux windows run: one stream of the machine on the window's terminal.
    case relay
    /// What the launcher runs to bring an image: the transfer, a digest beside it, and an unpacker.
    case fetch, digest, unpack
}

/// What each machine shows, beside its ports: each a window in tmux.
package enum StreamName: String, CaseIterable, Codable { case screen, serial, log }

package enum ImagesVerb: String, CaseIterable { case ls, pull, rm, verify }

package enum DiskVerb: String, CaseIterable { case info, check, rebase, flatten, commit, export }

package enum HugepageChoice: Equatable {
    case auto, off, required
    case size(ByteCount)
}

package enum AcceleratorChoice: String, CaseIterable, Codable { case auto, kvm, tcg }
package enum Chipset: String, CaseIterable, Codable { case q35, pc }
package enum Firmware: String, CaseIterable, Codable { case bios, uefi }
package enum DiskFormat: String, CaseIterable, Codable { case qcow2, raw, iso, vmdk, vhdx, vpc, vdi, parallels }
package enum DiskBus: String, CaseIterable, Codable { case virtio, scsi, sata }
package enum SeedLabel: String, CaseIterable, Codable {
    case cidata
    case config2 = "config-2"
}
/// What plays the network where no rights are needed: QEMU itself (slirp), or passt.
package enum UserNetwork: String, CaseIterable, Codable { case slirp, passt }

package enum VNCChoice: Equatable {
    case off
    case at(SocketAddress)
}
