import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import Supervision
@testable import System
@testable import TestSupport
@testable import Values

/// What is decided for the machine's NICs, without any network.
struct NetworkPlanTests {
    private static let addresses = """
        [{"ifname":"lo","flags":["UP"],"mtu":65536,"address":"00:00:00:00:00:00","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host","label":"lo"}]},
        {"ifname":"eth0","flags":["BROADCAST","UP"],"mtu":1450,"address":"02:42:ac:11:00:02","linkinfo":{"info_kind":"veth"},"addr_info":[
        {"family":"inet","local":"172.17.0.2","prefixlen":16,"broadcast":"172.17.255.255","scope":"global","label":"eth0:a","valid_life_time":4294967295,"preferred_life_time":600},
        {"family":"inet","local":"10.2.0.1","address":"10.2.0.2","prefixlen":32,"scope":"global","label":"eth0"},
        {"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"}]},
        {"ifname":"eth1","flags":["UP"],"mtu":1500,"address":"02:42:ac:12:00:02","linkinfo":{"info_kind":"veth"},"addr_info":[{"family":"inet","local":"172.18.0.2","prefixlen":16,"scope":"global"}]},
        {"ifname":"ipv0","flags":["UP"],"mtu":1500,"address":"02:42:ac:13:00:02","linkinfo":{"info_kind":"ipvlan"},"addr_info":[]},
        {"ifname":"br0","flags":["UP"],"mtu":1500,"address":"02:42:ac:14:00:02","linkinfo":{"info_kind":"bridge"},"addr_info":[]},
        {"ifname":"eth2","flags":[],"mtu":1500,"address":"02:42:ac:15:00:02","addr_info":[]},
        {"ifname":"eth3","flags":["UP"],"mtu":1500,"address":"02:42:ac:16:00:02","master":"br0","addr_info":[]}]
        """
    private static let routes = """
        [{"dst":"default","gateway":"172.17.0.1","dev":"eth0","flags":[]},
        {"dst":"172.17.0.0/16","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"172.17.0.2","flags":[]},
        {"dst":"10.9.0.0/16","gateway":"172.17.0.9","dev":"eth0","metric":5,"flags":["onlink"],"metrics":[{"mtu":1400}]},
        {"dst":"10.8.0.0/16","via":{"family":"inet6","host":"fe80::9"},"dev":"eth0","flags":[]},
        {"dst":"10.7.0.1","dev":"eth0","table":"77","flags":[]},
        {"type":"local","dst":"172.17.0.2","dev":"eth0","table":"local","protocol":"kernel","flags":[]},
        {"dst":"fe80::/64","dev":"eth0","protocol":"kernel","metric":256,"flags":[],"pref":"medium"}]
        """

    private static var facts: HostFacts {
        var facts = Samples.facts
        (facts.tools.ip, facts.tools.nft, facts.tools.dnsmasq) = ("/sbin/ip", "/usr/sbin/nft", "/usr/sbin/dnsmasq")
        var network = HostFacts.Network(
            FileTree(root: "/nonexistent"), addresses: try! JSON(parsing: addresses), routes: try! JSON(parsing: routes)
        )
        (network.isOwn, network.canSetForwarding) = (true, true)
        network.nameservers = [IPAddress("10.1.1.1")!]
        facts.network = network
        return facts
    }

    private func plan(_ words: String..., change: (inout HostFacts) -> Void = { _ in }) throws -> Plan {
        var facts = NetworkPlanTests.facts
        change(&facts)
        let arguments = try Parser.parse(words + ["/u/disk.qcow2"], environment: [:])
        var findings = Findings(folders: MachinePaths(arguments, uid: 0))
        findings.image = Samples.image
        findings.seed.sshKeys = ["ssh-ed25519 AAAA me"]
        for search in AddressSearch.all(try Wishes(arguments, facts).guestNICs, facts, uuid: "x") where search.isChoice
        {
            findings.addresses[search.place] = search.candidates.first
        }
        return try MachinePlanner.plan(arguments, facts, Wishes(arguments, facts), findings)
    }

    @Test func modesAreReadAndWrittenAlike() {
        for text in ["bridge", "bridge:br0", "takeover", "nat", "user", "none", "tap:t", "macvtap:m"] {
            #expect(NetworkMode(text)?.description == text)
        }
        for text in ["", "bridge:", "tap", "tap:", "nat:x", "Bridge", "host"] { #expect(NetworkMode(text) == nil) }
    }

    @Test func addressRequestsAreRead() {
        #expect(
            AddressRequest("auto") == .auto && AddressRequest("dhcp") == .dhcp
                && AddressRequest("none") == AddressRequest.none)
        let fixed = AddressRequest("10.0.0.5/24,10.0.0.1")
        #expect(fixed?.joined(with: AddressRequest("fd00::5/64")!) != nil)
        #expect(fixed?.joined(with: AddressRequest("10.0.0.6/24")!) == nil)
        #expect(fixed?.joined(with: .auto) == nil)
        for text in ["10.0.0.5", "10.0.0.5/24,", "10.0.0.5/24,fd00::1", "x", "10.0.0.5/24,10.0.0.1,10.0.0.2"] {
            #expect(AddressRequest(text) == nil, "\(text)")
        }
    }

    @Test func furtherNICsAreRead() throws {
        let nic = try #require(
            GuestNICRequest("eth1=bridge,address=10.0.0.5/24,gateway=10.0.0.1,mac=02:00:00:00:00:0A"))
        #expect(nic.interface == "eth1" && nic.mode == .bridge(nil) && nic.mac == "02:00:00:00:00:0a")
        #expect(nic.address == AddressRequest("10.0.0.5/24,10.0.0.1"))
        for text in [
            "eth1", "=bridge", "eth1=", "eth1=user", "eth1=none", "eth1=nat,mac=x", "eth1=nat,gateway=10.0.0.1",
            "eth1=nat,x=y", "eth1=nat,",
        ] {
            #expect(GuestNICRequest(text) == nil, "\(text)")
        }
    }

    /// What `ip` printed is what it is told again.
    @Test func interfacesAndRoutesAreRead() throws {
        let network = try #require(NetworkPlanTests.facts.network)
        #expect(network.uplink?.name == "eth0")
        let own = try #require(network.link("eth0")).addresses
        #expect(
            own[0].words.joined(separator: " ")
                == "172.17.0.2/16 broadcast 172.17.255.255 scope global preferred_lft 600")
        #expect(own[0].label == "eth0:a" && own[1].words[0] == "10.2.0.1 peer 10.2.0.2/32" && own[2].isLinkLocal)
        let words = network.routes.map { ($0.words ?? ["?"]).joined(separator: " ") }
        #expect(words.contains("0.0.0.0/0 via 172.17.0.1"))
        #expect(words.contains("10.9.0.0/16 via 172.17.0.9 metric 5 mtu 1400 onlink"))
        #expect(words.contains("10.8.0.0/16 via inet6 fe80::9"))
        #expect(words.contains("10.7.0.1/32 table 77"))
        #expect(network.routes.count == 6)
    }

    @Test func resolverIsRead() {
        let read = HostFacts.Network.resolver(
            "# x\nnameserver 127.0.0.11\nnameserver fe80::1%eth0\nnameserver nonsense\ndomain a.b\nsearch c.d e.f x;y\noptions ndots:0\n"
        )
        #expect(read.servers.map(\.description) == ["127.0.0.11", "fe80::1"])
        #expect(read.search == ["c.d", "e.f"])
    }

    @Test func bridgedInContainersElseNot() throws {
        let container = { (facts: inout HostFacts) in facts.privileges.inContainer = true }
        #expect(try plan(change: container).guestNICs[0].mode == .bridge(nil))
        #expect(try plan().guestNICs[0].mode == .user)
        let changes: [(inout HostFacts) -> Void] = [
            { $0.network?.isOwn = false }, { $0.privileges.hasTun = false }, { $0.tools.nft = nil },
            { $0.tools.dnsmasq = nil },
            { $0.network?.links.removeAll { $0.name == "eth0" } }, { $0.privileges.capabilities = 0 },
            { $0.network = nil },
        ]
        for change in changes {
            #expect(
                try plan {
                    container(&$0)
                    change(&$0)
                }.guestNICs[0].mode == .user)
        }
    }

    @Test func bridgeIsPlannedWhole() throws {
        let plan = try plan("--net", "bridge", "--cpus", "4")
        let nic = plan.guestNICs[0]
        #expect(
            nic.addresses == [.init(address: NetworkAddress("172.17.255.254/16")!, gateway: IPAddress("172.17.0.1")!)])
        #expect(nic.mtu == 1450 && nic.queues == 4 && nic.nameservers == [IPAddress("10.1.1.1")!])
        let words = plan.qemu.arguments.joined(separator: " ")
        #expect(
            words.contains("guest_csum=off") && words.contains("host_mtu=1450") && words.contains("mq=on,vectors=10"))
        #expect(words.contains("-netdev tap,id=eth0,ifname=\(nic.device!),script=no,downscript=no,queues=4"))
        #expect([nic.device!, nic.bridge!].allSatisfy { $0.utf8.count <= 15 })
        let text = plan.shellText
        // Pinned to the interface's own address.
        #expect(text.contains("link add name \(nic.bridge!) address 02:42:ac:11:00:02 mtu 1450 type bridge"))
        // In this order: nobody is without an address in between.
        let order = [
            "address add 172.17.0.2/16", "link set dev eth0 master", "route add 0.0.0.0/0 via 172.17.0.1",
            "address del 172.17.0.2/16",
        ]
        let places = order.compactMap { text.firstRange(of: $0)?.lowerBound }
        #expect(places.count == order.count && places == places.sorted())
        #expect(text.contains("address del 10.2.0.1 peer 10.2.0.2/32 dev eth0"))
        #expect(text.contains("maxseg size set 1410") && text.contains("dhcp-host=\(nic.mac),172.17.255.254,infinite"))
        #expect(text.contains(#""via": "172.17.0.1""#))
        // A guest that asks again and again fills no log, but for who wants to see each step.
        #expect(text.contains("quiet-dhcp") && !text.contains("log-dhcp"))
        #expect(try self.plan("--net", "bridge", "-v").shellText.contains("log-dhcp"))
    }

    /// The bridge would take the machine's frames for the container's.
    @Test func noTapHasTheMachinesMACAddress() throws {
        for (mac, tap) in [("fe:00:00:00:00:0a", "fe:00:00:00:00:0b"), ("52:54:00:00:00:0a", "fe:54:00:00:00:0a")] {
            #expect(try plan("--net", "bridge", "--mac", mac).shellText.contains("t0 address \(tap) mtu"))
        }
    }

    /// A guest sets up what it is told of, and nothing else.
    @Test func userNetworkIsToldBesideOthers() throws {
        let plan = try plan("--net", "user", "--nic", "lan=bridge:br0,mac=02:00:00:00:00:07")
        let told = try #require(GuestNetworkConfig(plan.guestNICs))
        #expect(told.networkConfig["ethernets"]?["eth0"]?["dhcp4"] == true)
        #expect(told.networkConfig["ethernets"]?["eth1"]?["match"]?["macaddress"] == "02:00:00:00:00:07")
        #expect(told.networkData["networks"]?.array?.first?["type"] == "ipv4_dhcp")
        #expect(GuestNetworkConfig(try self.plan("--net", "user").guestNICs) == nil)
    }

    /// What passes packets on for its machine does not for others.
    @Test func containersDoNotBecomeRouters() throws {
        let published = try plan("--net", "bridge", "--publish", "80:80")
        let bridge = try #require(published.guestNICs[0].bridge)
        #expect(
            published.shellText.contains(#"meta nfproto ipv4 iifname "\#(bridge)" oifname != { "\#(bridge)" } drop"#))
        let behind = try plan("--net", "nat")
        let tap = try #require(behind.guestNICs[0].device)
        #expect(behind.shellText.contains(#"meta nfproto ipv4 iifname { "eth0" } oifname != { "\#(tap)" } drop"#))
        // One that is a router already stays one.
        let router = try plan("--net", "nat") { facts in
            for name in ["eth0", "default"] { facts.network?.forwarding["ipv4/\(name)"] = true }
        }
        #expect(!router.shellText.contains("nfproto"))
    }

    /// With `all` each of them is set.
    @Test func forwardingOfOthersComesBack() throws {
        let plan = try plan("--net", "nat") { facts in
            facts.network?.forwarding["ipv6/eth1"] = true
            facts.network?.links[1].addresses.append(HostFacts.Address(address: NetworkAddress("fd01::2/64")!))
        }
        let settings = plan.effects.compactMap { step -> String? in
            guard case .setting(let setting) = step, setting.path.contains("ipv6") else { return nil }
            return "\(setting.path.split(separator: "/")[5]) \(setting.before)\(setting.value)"
        }
        // Undone in the other direction.
        #expect(settings == ["eth1 10", "all 01"])
    }

    /// The machine's route to what is only reached by another router.
    @Test func furtherRoutesAreTheMachinesToo() throws {
        let plan = try plan("--net", "bridge")
        #expect(plan.guestNICs[0].routes.map(\.destination.description) == ["10.9.0.0/16"])
        #expect(plan.shellText.contains("classless-static-route,0.0.0.0/0,172.17.0.1,10.9.0.0/16,172.17.0.9"))
    }

    @Test func addressesOfMachinesDiffer() throws {
        let one = try plan("--net", "bridge", "--nic", "eth1=bridge", "--name", "a")
        let two = try plan("--net", "bridge", "--nic", "eth1=bridge", "--name", "b")
        let again = try plan("--net", "bridge", "--nic", "eth1=bridge", "--name", "a")
        let all = (one.guestNICs + two.guestNICs).map(\.mac)
        #expect(Set(all).count == 4 && one.guestNICs.map(\.mac) == again.guestNICs.map(\.mac))
        let devices = (one.guestNICs + two.guestNICs).flatMap { [$0.device, $0.bridge] }
        #expect(Set(devices).count == 8)
        #expect(all.allSatisfy { MACAddress(unicast: "\($0)") != nil })
    }

    /// Other bridges of a host are none of its business.
    @Test func rulesAreForTheMachineAlone() throws {
        let plan = try plan("--bridge", "br0", "--address", "10.0.0.5/24") {
            $0.network?.links[4].mtu = 1400
            $0.network?.links[4].addresses = [HostFacts.Address(address: NetworkAddress("10.0.0.1/24")!)]
        }
        let text = plan.effects.compactMap { if case .tables(let tables) = $0 { tables.text } else { nil } }.joined()
        let rules = text.split(separator: "\n").filter { $0.hasPrefix("        ") && !$0.contains("type filter") }
        #expect(!rules.isEmpty && rules.allSatisfy { $0.contains("ifname \"sv") }, "\(rules)")
    }

    @Test func publishedPortsNeedNoSecondNumber() {
        let ports = PublishedPort.parse("8022,1111,1231-1233/udp")
        #expect(
            ports?.map(\.host) == [8022, 1111, 1231, 1232, 1233]
                && ports?.allSatisfy { $0.host == $0.guest && $0.udp } == true)
        #expect(PublishedPort.parse("") == nil && PublishedPort.parse("x") == nil && PublishedPort.parse("0") == nil)
    }

    @Test func natKeepsOutOfTheWayOfOtherNetworks() throws {
        let plan = try plan("--net", "nat") {
            let wide = #"[{"dst":"10.231.0.0/17","gateway":"172.17.0.1","dev":"eth0","flags":[]}]"#
            let route = HostFacts.Network(
                FileTree(root: "/nonexistent"), addresses: [], routes: try! JSON(parsing: wide)
            )
            .routes
            $0.network?.routes += route
        }
        #expect(plan.guestNICs[0].addresses[0].address.description == "10.231.128.2/24")
        #expect(plan.shellText.contains("tcp dport != { 5901 } dnat ip to 10.231.128.2"))
    }

    @Test func refusalsNameWhatIsWrong() throws {
        var tap = HostFacts.Link(name: "t0")
        (tap.mac, tap.isUp) = ("02:00:00:00:00:0f", true)
        tap.tap = .init(owner: nil)
        let cases: [([String], String, (inout HostFacts) -> Void)] = [
            (["--net", "bridge", "--interface", "eth2"], "it is down; ip link set eth2 up", { _ in }),
            (
                ["--net", "bridge", "--interface", "eth3"], "it is in br0 already; join that with --bridge br0",
                { _ in }
            ),
            (["--net", "bridge", "--interface", "ipv0"], "lets no frames of other MAC addresses through", { _ in }),
            (["--net", "takeover", "--interface", "ipv0"], "no address to take over", { _ in }),
            (["--net", "nat"], "docker run --sysctl net.ipv4.ip_forward=1", { $0.network?.canSetForwarding = false }),
            (["--net", "bridge"], "docker run --device /dev/net/tun", { $0.privileges.hasTun = false }),
            (
                ["--net", "bridge"], "docker run --cap-add NET_ADMIN",
                {
                    $0.privileges.capabilities = 0
                    $0.privileges.inContainer = true
                }
            ),
            (["--net", "bridge"], "cannot find ip", { $0.tools.ip = nil }),
            (["--net", "bridge"], "cannot find nft", { $0.tools.nft = nil }),
            (["--net", "bridge", "--address", "172.17.9.9/16"], "cannot find dnsmasq", { $0.tools.dnsmasq = nil }),
            (["--net", "bridge"], "of a kind that could not be put back", { $0.network?.routes[0].words = nil }),
            (["--net", "bridge"], "this is the host's own network", { $0.network?.isOwn = false }),
            (
                ["--net", "bridge"], "of a kind that could not be put back",
                {
                    let text =
                        #"[{"dst":"10.5.0.0/16","flags":[],"nexthops":[{"gateway":"172.17.0.1","dev":"eth0","weight":1},{"gateway":"172.17.0.3","dev":"eth0","weight":1}]}]"#
                    let odd = HostFacts.Network(
                        FileTree(root: "/nonexistent"), addresses: [], routes: try! JSON(parsing: text))
                    $0.network?.routes += odd.routes
                }
            ),
            (
                ["--net", "bridge"], "has no room for another address",
                { $0.network?.links[1].addresses.removeAll { $0.address.prefix < 32 } }
            ),
            (["--net", "bridge", "--interface", "br0"], "it is a bridge itself; join it with --bridge br0", { _ in }),
            (["--net", "bridge"], "it has no MAC address", { $0.network?.links[1].mac = nil }),
            (["--net", "bridge", "--nic", "eth9=nat"], "use --nic eth9=nat: there is no such interface", { _ in }),
            (["--net", "nat", "--bridge", "br0"], "it goes with --net bridge", { _ in }),
            (["--net", "bridge:br0", "--address", "auto"], "the bridge has no address", { _ in }),
            (["--net", "bridge:br0", "--publish", "80:80"], "not ours to lead ports from", { _ in }),
            (["--net", "user", "--address", "none"], "always gives an address", { _ in }),
            (["--net", "user", "--user-net", "passt"], "cannot find passt", { _ in }),
            (["--net", "nat", "--address", "dhcp"], "behind the container's address", { _ in }),
            (
                ["--net", "nat", "--publish", "80:80", "--publish", "80:81"], "80 leads to the guest's 80 already",
                { _ in }
            ),
            (
                ["--net", "tap:t0", "--nic", "lan=tap:t0"], "t0 for eth1: eth0 has it",
                { $0.network?.links.append(tap) }
            ),
            (
                ["--net", "tap:t0", "--address", "10.0.0.255/24"], "no address for a host",
                { $0.network?.links.append(tap) }
            ),
            (
                ["--net", "nat", "--mac", "02:00:00:00:00:01", "--nic", "eth1=nat,mac=02:00:00:00:00:01"],
                "MAC address 02:00:00:00:00:01 for eth1: eth0 has it", { _ in }
            ),
        ]
        for (words, expected, change) in cases {
            var facts = NetworkPlanTests.facts
            change(&facts)
            let line = line(words, facts)
            #expect(line.contains(expected), "\(words): \(line)")
        }
    }

    private func line(_ words: [String], _ facts: HostFacts) -> String {
        do throws(Failure) {
            let arguments = try Parser.parse(words + ["/u/disk.qcow2"], environment: [:])
            var findings = Findings(folders: MachinePaths(arguments, uid: 0))
            findings.image = Samples.image
            for search in AddressSearch.all(try Wishes(arguments, facts).guestNICs, facts, uuid: "x")
            where search.isChoice {
                findings.addresses[search.place] = search.candidates.first
            }
            _ = try MachinePlanner.plan(arguments, facts, Wishes(arguments, facts), findings)
        } catch {
            return error.line
        }
        return "nothing was refused"
    }

    @Test func leasesAreRead() {
        let text = """
            0 02:00:00:00:00:01 172.17.255.254 guest 01:02:00:00:00:00:01
            duid 00:01:00:01:32:94
            0 12345 fd01::5 guest 00:01
            nonsense
            """
        #expect(Leases.parse(text)["02:00:00:00:00:01"] == [IPAddress("172.17.255.254")!])
    }

    /// A guest that called itself 127.0.0.9 got whoever listened there.
    @Test func aGuestIsOnlyLookedForOnItsNetwork() throws {
        let own: Set<String> = ["172.17.0.2", "10.9.9.9", "fd00::1"]
        let bad = [
            "127.0.0.1", "127.0.0.9", "::1", "0.0.0.0", "224.0.0.1", "::ffff:127.0.0.1", "172.17.0.2",
            "255.255.255.255",
        ]
        let joined = try plan("--net", "bridge").guestNICs[0]
        var free = joined
        free.addresses = []
        for (nic, elsewhere) in [
            (joined, ["8.8.8.8", "169.254.169.254", "10.9.9.9"]), (free, ["169.254.169.254", "fd00::1"]),
        ] {
            for text in bad + elsewhere {
                let says = [GuestInterface(mac: nic.mac, addresses: [try #require(IPAddress(text))])]
                #expect(GuestNICStatus(nic, leases: [:], guest: says).reachable(nic, besides: own) == [], "\(text)")
            }
            let right = IPAddress("172.17.3.4")!
            let says = [GuestInterface(mac: nic.mac, addresses: [IPAddress("127.0.0.1")!, right])]
            #expect(GuestNICStatus(nic, leases: [:], guest: says).reachable(nic, besides: own) == [right])
        }
    }

    /// What the guest took, then what it says, then what was meant.
    @Test func statusTrustsTheLeaseMost() throws {
        let nic = try plan("--net", "bridge").guestNICs[0]
        let says = [GuestInterface(mac: nic.mac, addresses: [IPAddress("9.9.9.9")!])]
        let leases = [nic.mac: [IPAddress("8.8.8.8")!]]
        #expect(GuestNICStatus(nic, leases: leases, guest: says).addressesFrom == .lease)
        #expect(GuestNICStatus(nic, leases: [:], guest: says).addresses == [IPAddress("9.9.9.9")!])
        #expect(
            GuestNICStatus(nic, leases: [:], guest: [GuestInterface(mac: nil, addresses: [])]).addressesFrom == .plan)
    }
}
