import Model
import Values

/// One NIC of the machine, beside its ports.
package struct GuestNICPlan: Encodable, Equatable {
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
    package var addresses: [GuestAddress] = []
    /// Beyond the default route.
    package var routes: [FurtherRoute] = []
    package var nameservers: [IPAddress] = []
    package var searchDomains: [String] = []
    package var usesDHCP = false
    package var usesPasst = false
    package var published: [PublishedPort] = []
    /// Where the launcher's side of the network finds the guest, where that is not at its own address.
    package var reachedAt: IPAddress?

    package struct FurtherRoute: Encodable, Equatable {
        package var destination: NetworkAddress
        package var gateway: IPAddress
    }

    package enum Vhost: String, Encodable { case off, passed, opened }

    package var isKernels: Bool { ![.user, .none].contains(mode) }
}
