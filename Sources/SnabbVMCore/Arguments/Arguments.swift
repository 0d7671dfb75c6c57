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
    var nics: [NICRequest] = []
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
    var watch = false
    var health = false
}

enum Verb: String, CaseIterable {
    case run, demo, images, check, nics, status, ports, stop, console, ssh, release, completion, manual, help, version
    /// What the tmux windows run: one stream of the machine on the window's terminal.
    case relay
    /// What the launcher runs to bring an image: the transfer, a digest beside it, and an unpacker.
    case fetch, digest, unpack

    /// What users are told of.
    static var shown: [Verb] { allCases.filter { !$0.isInternal && $0 != .version } }

    /// Not for users.
    private var isInternal: Bool { [.relay, .fetch, .digest, .unpack].contains(self) }

    var usage: String {
        switch self {
        case .run: "[run] [options] IMAGE [PORT…]"
        case .demo: "demo [options]"
        case .images: "images [ls|pull|rm|verify] [NAME…] [--json]"
        case .check: "check [options] [PORT…]"
        case .nics: "nics [--json]"
        case .status: "status [--name NAME] [--json|--health]"
        case .ports: "ports [--name NAME] [--watch] [--json]"
        case .stop: "stop [--name NAME] [--now]"
        case .console: "console [--name NAME] [WINDOW]"
        case .ssh: "ssh [options] [COMMAND…]"
        case .release: "release [--name NAME | --all | PCI…]"
        case .completion: "completion bash|zsh|fish"
        case .manual: "manual"
        case .help: "help"
        case .version: "--version"
        case .relay: "relay STREAM"
        case .fetch: "fetch"
        case .digest, .unpack: "\(rawValue) REQUEST"
        }
    }

    var summary: String {
        switch self {
        case .run: "boot IMAGE and stay until the machine ends"
        case .demo: "boot the built-in demo machine"
        case .images: "list, fetch, remove or check the images of the cache"
        case .check: "what this host has and lacks, and how to mend it"
        case .nics: "every NIC of this host, what drives it and who has it"
        case .status: "say how a running machine is"
        case .ports: "the packets, drops and rates of its NIC ports"
        case .stop: "press its power button, and wait for its end"
        case .console: "attach to its windows in tmux, or to one: screen, serial, log or a port"
        case .ssh: "log in to its guest, as soon as it lets one in"
        case .release: "give back what a killed launcher left behind, NICs too"
        case .completion: "print what makes a shell complete these words"
        case .manual: "print the manual page: snabbvm manual | man -l -"
        case .help: "print this"
        case .version: "print the version"
        case .relay: "connect a terminal to one stream of a machine"
        case .fetch: "bring an image into the cache"
        case .digest: "tell the digest of a file that grows"
        case .unpack: "unpack a file that grows"
        }
    }
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

/// A port of the host (or container) that leads to one of the guest.
struct PublishedPort: Codable, Equatable, CustomStringConvertible {
    var address: String?
    var host: Int
    var guest: Int
    var udp = false

    var description: String {
        let from = address.map { SocketAddress(host: $0, port: host).description } ?? "\(host)"
        return "\(from):\(guest)" + (udp ? "/udp" : "")
    }

    /// Both would listen for the same.
    func overlaps(_ other: PublishedPort) -> Bool {
        let isAny = { (port: PublishedPort) in ["0.0.0.0", "::"].contains(port.address ?? "::") }
        return host == other.host && udp == other.udp && (isAny(self) || isAny(other) || address == other.address)
    }

    /// `[ADDRESS:]HOST:GUEST[/udp]`, or HOST alone for the same on both sides, where HOST and GUEST can be lists and ranges of the same length: `80,8000-8003`.
    static func parse(_ text: String) -> [PublishedPort]? {
        var rest = text[...]
        var udp = false
        if let slash = rest.lastIndex(of: "/") {
            switch rest[rest.index(after: slash)...] {
            case "udp": udp = true
            case "tcp": break
            default: return nil
            }
            rest = rest[..<slash]
        }
        // The same ports on both sides.
        guard let guestColon = rest.lastIndex(of: ":") else {
            return ports(rest).map { $0.map { PublishedPort(host: $0, guest: $0, udp: udp) } }
        }
        let guestText = rest[rest.index(after: guestColon)...]
        rest = rest[..<guestColon]
        var address: String?
        if let hostColon = rest.lastIndex(of: ":"), !rest.hasSuffix("]") {
            address = String(rest[..<hostColon])
            rest = rest[rest.index(after: hostColon)...]
        }
        if let given = address, given.hasPrefix("["), given.hasSuffix("]") {
            address = String(given.dropFirst().dropLast())
        }
        if let given = address, !SocketAddress.isNumeric(host: given) { return nil }
        guard let hosts = ports(rest), let guests = ports(guestText), hosts.count == guests.count else { return nil }
        return zip(hosts, guests).map { PublishedPort(address: address, host: $0, guest: $1, udp: udp) }
    }

    private static func ports(_ text: Substring) -> [Int]? {
        guard let numbers = String(text).numberList, numbers.allSatisfy({ $0 > 0 }) else { return nil }
        return numbers
    }
}
