import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import Supervision
@testable import System
@testable import Values

/// What a container engine makes, in network namespaces: a host with the bridge docker0, on it a container and a peer, and
/// a network beyond, to which the host routes.
final class ContainerNetwork {
    static let canRun = Parts.isRoot && Parts.has("ip", "nft", "dnsmasq", "python3", "curl")
    static let missing: Comment =
        "only root may make network namespaces, or iproute2, nftables, dnsmasq, python3 or curl is missing"

    static let gateway = "172.17.0.1"
    static let address = "172.17.0.2"
    static let peerAddress = "172.17.0.3"
    /// The first that `auto` tries.
    static let highest = "172.17.255.254"
    static let beyondAddress = "192.168.77.2"
    static let mac = "02:42:ac:11:00:02"

    let host: String
    let container: String
    let peer: String
    let beyond: String
    private let name = "sc\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    private var background: [Background] = []

    init(mtu: Int = 1500, resolver: String = "search corp.example lab.example\nnameserver \(beyondAddress)\n")
        throws
    {
        (host, container, peer, beyond) = ("\(name)-h", "\(name)-c", "\(name)-p", "\(name)-b")
        let folder = "/etc/netns/\(container)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try resolver.write(toFile: "\(folder)/resolv.conf", atomically: false, encoding: .utf8)
        for namespace in [host, container, peer, beyond] {
            try Wire.ip("netns", "add", namespace)
            try Wire.ip("-n", namespace, "link", "set", "lo", "up")
        }
        try shell(
            host,
            """
            sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
            ip link add docker0 mtu \(mtu) type bridge
            ip address add 172.17.0.1/16 dev docker0
            ip address add fd01::1/64 dev docker0 nodad
            ip link set docker0 up
            """)
        try connect(container, 2, mtu)
        try connect(peer, 3, mtu)
        try shell(
            host,
            """
            ip link add beyond mtu \(mtu) type veth peer name eth0 mtu \(mtu) netns \(beyond)
            ip address add 192.168.77.1/24 dev beyond
            ip link set beyond up
            """)
        try shell(
            beyond,
            "ip address add \(ContainerNetwork.beyondAddress)/24 dev eth0; ip link set eth0 up; ip route add default via 192.168.77.1"
        )
        settle()
    }

    deinit {
        for one in background { one.end() }
        for namespace in [host, container, peer, beyond] { _ = try? run("ip", ["netns", "delete", namespace]) }
        try? FileManager.default.removeItem(atPath: "/etc/netns/\(container)")
    }

    private func connect(_ namespace: String, _ number: Int, _ mtu: Int) throws {
        try shell(
            host,
            """
            ip link add c\(number) mtu \(mtu) type veth peer name eth0 mtu \(mtu) address 02:42:ac:11:00:0\(number) netns \(namespace)
            ip link set c\(number) master docker0 up
            """)
        try shell(
            namespace,
            """
            ip address add 172.17.0.\(number)/16 broadcast 172.17.255.255 dev eth0
            ip address add fd01::\(number)/64 dev eth0 nodad
            ip link set eth0 up
            ip route add default via 172.17.0.1
            ip route add default via fd01::1
            """)
    }

    /// One more network of the container, as `docker network connect` makes them: bridge and interface `ethN`, with
    /// addresses 172.(17+N).0.1, .2 and, for a peer that is the host itself, .3.
    func addNetwork(_ number: Int) throws {
        let net = "172.\(17 + number).0"
        try shell(
            host,
            """
            ip link add br\(number) type bridge
            ip address add \(net).1/16 dev br\(number)
            ip link set br\(number) up
            ip link add n\(number) type veth peer name eth\(number) netns \(container)
            ip link set n\(number) master br\(number) up
            """)
        try shell(
            container,
            "ip address add \(net).2/16 broadcast 172.\(17 + number).255.255 dev eth\(number); ip link set eth\(number) up"
        )
        settle()
    }

    /// The engine takes the container's interface away and gives it another, with another address.
    func reconnect(_ number: Int) throws {
        try shell(host, "ip link delete c2")
        try connect(container, number, 1500)
        settle()
    }

    /// Until the kernel has tried its own addresses, what is printed changes by itself.
    func settle() {
        _ = eventually(within: 20) {
            (try? shell(container, "ip address; ip -n \(peer) address").output.contains("tentative")) == false
        }
    }

    /// For a program in the container.
    var wrapper: [String] { ["ip", "netns", "exec", container] }

    @discardableResult
    func shell(_ namespace: String, _ command: String) throws -> Outcome {
        try run("ip", ["netns", "exec", namespace, "bash", "-c", command])
    }

    /// Runs until the test ends.
    @discardableResult
    func start(_ namespace: String, _ words: String...) throws -> Background {
        let started = try Background("ip", ["netns", "exec", namespace] + words)
        background.append(started)
        return started
    }

    /// The host says on this bridge that it is a router, as often (and good for as long) as is said, in seconds.
    func advertise(_ prefix: String, on bridge: String, every seconds: String? = nil) throws {
        let words = [
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=\(bridge)",
            "--enable-ra", "--dhcp-range=\(prefix),ra-only,64", "--pid-file=", "--user=root",
        ]
        let pace = seconds.map { ["--ra-param=\(bridge),\($0)"] } ?? []
        background.append(try Background("ip", ["netns", "exec", host] + words + pace))
    }

    /// Serves the folder beyond, on port 80.
    func serve(_ folder: String) throws {
        try start(beyond, "python3", "-m", "http.server", "--directory", folder, "80")
        #expect(try eventually(within: 20) { try shell(beyond, "curl -s -o /dev/null http://127.0.0.1/").code == 0 })
    }

    /// All that a machine could leave in the container.
    func snapshot() throws -> String {
        let commands = [
            "ip -json address", "ip -json -4 route show table all", "ip -json -6 route show table all", "ip -json link",
            "ip -json rule", "nft list ruleset",
            "sysctl -a 2>/dev/null | grep -E '^net[.](ipv4|ipv6|bridge)' | grep -vE 'expires|mtu_expires|[.]sv|stable_secret|nf_conntrack_count'",
        ]
        return try shell(container, commands.joined(separator: "; echo; ")).output
    }

    func pings(_ address: String, from namespace: String) throws -> Bool {
        try shell(namespace, "ping -q -c 1 -W 1 \(address)").code == 0
    }

    /// Whether VNC answers at the container's address.
    func hasVNC(from namespace: String) throws -> Bool {
        try shell(
            namespace, "exec 3<>/dev/tcp/\(ContainerNetwork.address)/5901 && timeout 10 head -c 3 <&3"
        ).output == "RFB"
    }
}
