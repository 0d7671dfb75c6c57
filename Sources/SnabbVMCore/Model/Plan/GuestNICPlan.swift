/// One NIC of the machine, beside its ports.
struct GuestNICPlan: Codable, Equatable {
    /// As the guest counts its interfaces.
    var name: String
    var mode: NetworkMode
    var mac: MACAddress
    var model: String
    /// The container's interface, and the bridge that the machine's NIC is in.
    var interface: String?
    var bridge: String?
    /// The tap or macvtap that QEMU opens.
    var device: String?
    var queues = 1
    /// Whether the kernel moves the packets between tap and guest, and not QEMU.
    var vhost = Vhost.off
    /// Whether the guest is given unfinished checksums and packets larger than the MTU.
    var offload = false
    var mtu: Int?
    var addresses: [Assigned] = []
    /// Beyond the default route.
    var routes: [FurtherRoute] = []
    var nameservers: [IPAddress] = []
    var searchDomains: [String] = []
    var usesDHCP = false
    var usesPasst = false
    var published: [PublishedPort] = []
    /// Where the launcher's side of the network finds the guest, where that is not at its own address.
    var reachedAt: IPAddress?

    struct Assigned: Codable, Equatable {
        var address: NetworkAddress
        var gateway: IPAddress?
    }

    struct FurtherRoute: Codable, Equatable {
        var destination: NetworkAddress
        var gateway: IPAddress
    }

    enum Vhost: String, Codable { case off, passed, opened }

    var isKernels: Bool { ![.user, .none].contains(mode) }
}
