import Values

/// One NIC of the machine, beside its ports.
package struct GuestNICPlan: Codable, Equatable {
    /// As the guest counts its interfaces.
    package var name: String
    package var mode: NetworkMode
    package var mac: MACAddress
    package var model: String
    /// The container's interface, and the bridge that the machine's NIC is in.
    package var interface: String?
    package var bridge: String?
    /// The tap or macvtap that QEMU opens.
    package var device: String?
    package var queues = 1
    /// Whether the kernel moves the packets between tap and guest, and not QEMU.
    package var vhost = Vhost.off
    /// Whether the guest is given unfinished checksums and packets larger than the MTU.
    package var offload = false
    package var mtu: Int?
    package var addresses: [Assigned] = []
    /// Beyond the default route.
    package var routes: [FurtherRoute] = []
    package var nameservers: [IPAddress] = []
    package var searchDomains: [String] = []
    package var usesDHCP = false
    package var usesPasst = false
    package var published: [PublishedPort] = []
    /// Where the launcher's side of the network finds the guest, where that is not at its own address.
    package var reachedAt: IPAddress?

    package init(
        name: String, mode: NetworkMode, mac: MACAddress, model: String, interface: String? = nil,
        bridge: String? = nil, device: String? = nil, queues: Int = 1, vhost: Vhost = Vhost.off, offload: Bool = false,
        mtu: Int? = nil, addresses: [Assigned] = [], routes: [FurtherRoute] = [], nameservers: [IPAddress] = [],
        searchDomains: [String] = [], usesDHCP: Bool = false, usesPasst: Bool = false, published: [PublishedPort] = [],
        reachedAt: IPAddress? = nil
    ) {
        self.name = name
        self.mode = mode
        self.mac = mac
        self.model = model
        self.interface = interface
        self.bridge = bridge
        self.device = device
        self.queues = queues
        self.vhost = vhost
        self.offload = offload
        self.mtu = mtu
        self.addresses = addresses
        self.routes = routes
        self.nameservers = nameservers
        self.searchDomains = searchDomains
        self.usesDHCP = usesDHCP
        self.usesPasst = usesPasst
        self.published = published
        self.reachedAt = reachedAt
    }

    package struct Assigned: Codable, Equatable {
        package var address: NetworkAddress
        package var gateway: IPAddress?

        package init(address: NetworkAddress, gateway: IPAddress? = nil) {
            self.address = address
            self.gateway = gateway
        }
    }

    package struct FurtherRoute: Codable, Equatable {
        package var destination: NetworkAddress
        package var gateway: IPAddress

        package init(destination: NetworkAddress, gateway: IPAddress) {
            self.destination = destination
            self.gateway = gateway
        }
    }

    package enum Vhost: String, Codable { case off, passed, opened }

    package var isKernels: Bool { ![.user, .none].contains(mode) }
}
