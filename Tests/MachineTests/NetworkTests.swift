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
@testable import TestSupport
@testable import Values

/// Real machines in a container's network: what they reach, what reaches them, and what is left when they are gone.
@Suite(
    .enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"),
    .enabled(if: ContainerNetwork.canRun, ContainerNetwork.missing), .serialized)
struct NetworkTests {
    private let scratch = Scratch()

    /// A machine whose guest has run the script.
    private func machine(
        _ options: [String], in network: ContainerNetwork, script: String = "", name: String = "test",
        in other: Scratch? = nil
    ) throws -> TestMachine {
        let scratch = other ?? scratch
        let user = scratch.file("script-\(name)", "#!/bin/sh\n\(script)\necho network-re''ady\n")
        let words = TestMachine.kernel + ["-u", user] + options
        let machine = try TestMachine(words, in: scratch, name: name, vnc: "0.0.0.0:5901", wrapper: network.wrapper)
        #expect(machine.shows("network-ready"), "\(machine.errors)\n\(machine.output.suffix(3000))")
        return machine
    }

    /// A machine that runs, for what needs nothing of its guest.
    private func started(_ options: [String], in network: ContainerNetwork, wrapper: [String]? = nil) throws
        -> TestMachine
    {
        let words = TestMachine.kernel + options
        let machine = try TestMachine(words, in: scratch, vnc: "0.0.0.0:5901", wrapper: wrapper ?? network.wrapper)
        #expect(machine.isStarted(), "\(machine.errors)")
        return machine
    }

    /// Without waiting for its guest.
    private func endNow(_ machine: TestMachine) throws {
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(machine.code() == 0, "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    private func end(_ machine: TestMachine) throws {
        machine.signal(SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    private func expectSame(_ network: ContainerNetwork, _ before: String) throws {
        let isSame = try eventually(within: 20) { try network.snapshot() == before }
        #expect(isSame)
        if !isSame { #expect(try network.snapshot() == before) }
    }

    private func nic(_ machine: TestMachine, _ index: Int = 0) throws -> GuestNICStatus {
        try #require(try machine.status().decode(MachineStatus.self).nics.dropFirst(index).first)
    }

    // MARK: - Each mode

    private static let talk = """
        for address in \(ContainerNetwork.peerAddress) \(ContainerNetwork.beyondAddress); do
            ping -c 1 -W 5 $address > /dev/null && echo "reached $address"
        done
        echo "received $(wget -q -O - http://\(ContainerNetwork.beyondAddress)/blob | sha256sum | head -c 64)"
        sed 's/^/resolver /' /etc/resolv.conf
        (exec nc -ll -p 22 -e nc \(ContainerNetwork.peerAddress) 2222) > /dev/null 2>&1 &
        """

    private static let hasSSH = Parts.has("ssh", "ssh-keygen") && access("/usr/sbin/sshd", X_OK) == 0
    private static let noSSH: Comment = "ssh or sshd is missing"

    /// The guest has no SSH server of its own: its port 22 leads to this one beside it. Returns the user's key.
    private func serveSSH(_ network: ContainerNetwork) throws -> String {
        let keys = scratch.folder("keys")
        _ = try run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "\(keys)/host"])
        _ = try run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "\(keys)/user"])
        try FileManager.default.createDirectory(atPath: "/run/sshd", withIntermediateDirectories: true)
        try network.start(
            network.peer, "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", "2222", "-h", "\(keys)/host", "-o",
            "AuthorizedKeysFile=\(keys)/user.pub", "-o", "StrictModes=no", "-o", "PidFile=none", "-o", "UsePAM=no")
        return "\(keys)/user"
    }

    private func expectLogsIn(_ network: ContainerNetwork, _ key: String) throws {
        let words =
            network.wrapper.dropFirst() + [
                Parts.snabbvm, "ssh", "--name", "test", "--run-dir", "\(scratch.path)/run", "-i", key, "--login",
                "root", "--sleep", "0.2", "--verbose", "echo", "-n", "hello from $((40 + 2))",
            ]
        let answer = try run("ip", Array(words))
        #expect(answer.output == "hello from 42" && answer.code == 0, "\(answer.errors)")
    }

    /// `reached` is where the guest is found from the peer.
    @Test(.enabled(if: hasSSH, noSSH), arguments: ["bridge", "takeover", "nat"])
    func guestReachesAndIsReached(_ mode: String) throws {
        let network = try ContainerNetwork()
        let before = try network.snapshot()
        let key = try serveSSH(network)
        let folder = scratch.folder("web")
        let digest = try run("bash", ["-c", "head -c 20000000 /dev/urandom | tee \(folder)/blob | sha256sum"]).output
            .prefix(64)
        try network.serve(folder)
        let frames = "\(scratch.folder("frames"))/frames"
        chmod(scratch.folder("frames"), 0o777)
        let dump = [
            "--qemu-arg", "-object", "--qemu-arg", "filter-dump,id=dump,netdev=eth0,maxlen=2000,file=\(frames)",
        ]
        let machine = try machine(["--net", mode] + dump, in: network, script: NetworkTests.talk)

        #expect(machine.output.contains("reached \(ContainerNetwork.peerAddress)"))
        #expect(machine.output.contains("reached \(ContainerNetwork.beyondAddress)"))
        #expect(machine.output.contains("received \(digest)"))
        #expect(machine.output.contains("resolver nameserver \(ContainerNetwork.beyondAddress)"))
        #expect(machine.output.contains("resolver search corp.example lab.example"))

        let status = try nic(machine)
        #expect(status.addressesFrom == .lease && status.mode.description == mode)
        let reached = mode == "bridge" ? ContainerNetwork.highest : ContainerNetwork.address
        for place in [network.peer, network.host, network.beyond] {
            let page = try network.shell(place, "curl -s --max-time 20 http://\(reached)/")
            #expect(page.output.contains("<h1>test</h1>"), "\(page.errors)")
            #expect(try network.hasVNC(from: place))
        }
        // The container's own way is open too.
        #expect(try network.pings(ContainerNetwork.peerAddress, from: network.container))
        let inside = status.reachedAt ?? status.addresses[0]
        #expect(
            try network.shell(network.container, "curl -s --max-time 20 http://\(inside)/").output.contains(
                "<h1>test</h1>"))
        let mine = try network.shell(
            network.container, "curl -s --max-time 60 http://\(ContainerNetwork.beyondAddress)/blob | sha256sum")
        #expect(mine.output.prefix(64) == digest)
        try expectLogsIn(network, key)

        try end(machine)
        try expectSame(network, before)
        // What a strict guest sees: no checksum that is still to be filled in.
        let seen = try Frames(frames)
        let incoming = seen.packets.filter {
            $0.destination == (mode == "takeover" ? ContainerNetwork.mac : status.mac.description)
        }
        #expect(incoming.filter { $0.hasTransport }.count > 1000)
        #expect(incoming.filter { !$0.isWhole }.map(\.summary) == [])
        // And nothing larger than its network's packets.
        #expect(incoming.map(\.length).max() ?? 0 <= 1514)
    }

    @Test(.enabled(if: hasSSH, noSSH)) func userNetworkNeedsNoRights() throws {
        try expectUserNetwork("slirp") { network in try expectLogsIn(network, try serveSSH(network)) }
    }

    @Test(.enabled(if: Parts.has("passt"), "passt is missing")) func passtNeedsNoRights() throws {
        try expectUserNetwork("passt")
    }

    private func expectUserNetwork(
        _ player: String, whileUp look: (ContainerNetwork) throws -> Void = { _ in }
    ) throws {
        let network = try ContainerNetwork()
        let before = try network.snapshot()
        let folder = scratch.folder("web")
        _ = scratch.file("web/blob", "hello")
        try network.serve(folder)
        let machine = try machine(
            ["--net", "user", "--user-net", player, "--publish", "8022,1111,1231-1233:80,81,82-84"], in: network,
            script: NetworkTests.talk)
        #expect(machine.output.contains("received "))
        #expect(try nic(machine).addresses.map(\.description).contains("10.0.2.15"))
        let page = try network.shell(network.peer, "curl -s --max-time 20 http://\(ContainerNetwork.address):8022/")
        #expect(page.output.contains("<h1>test</h1>"))
        try look(network)
        #expect(try network.snapshot() == before)
        try end(machine)
    }

    // MARK: - Addresses

    @Test func autoTakesAnotherAddressThanThePeers() throws {
        let network = try ContainerNetwork()
        try network.shell(
            network.peer,
            "ip address add 172.17.255.254/16 dev eth0; ip address add 172.17.255.252/16 dev eth0; ip address add fd01::ffff:ffff:ffff:feff/64 dev eth0 nodad"
        )
        let machine = try machine(["--net", "bridge"], in: network)
        let nic = try nic(machine)
        #expect(nic.addresses.map(\.description) == ["172.17.255.253"])
        #expect(machine.given("network-config")?.contains("fd01::ffff:ffff:ffff:fefe/64") == true)
        // Somebody who comes later is seen.
        try network.shell(
            network.peer,
            "ip address add 172.17.255.253/16 dev eth0; ip route get 172.17.0.2; ping -c 3 -W 1 -I 172.17.255.253 172.17.0.1"
        )
        let peersMAC = try network.shell(network.peer, "cat /sys/class/net/eth0/address").output.trimmed
        #expect(
            eventually(within: 20) { machine.errors.contains("with MAC address \(peersMAC), uses 172.17.255.253") },
            "\(machine.errors)")
        try end(machine)
    }

    /// Two launchers that begin at the same moment, and a third that comes while their guests are still booting.
    @Test func launchersDoNotTakeTheSameAddress() throws {
        let network = try ContainerNetwork()
        // Each in a container of its own: the peer is one too.
        let others = (0..<2).map { _ in Scratch() }
        let words = TestMachine.kernel + ["--net", "bridge"]
        let places = [network.container, network.peer]
        let machines = try zip(places, others).map { place, scratch in
            try TestMachine(words, in: scratch, name: "vm-\(place.suffix(1))", wrapper: ["ip", "netns", "exec", place])
        }
        for machine in machines { #expect(machine.isUp(), "\(machine.errors)") }
        let taken = try machines.map { try nic($0).addresses[0].description }
        #expect(Set(taken) == ["172.17.255.254", "172.17.255.253"])
        for machine in machines {
            machine.signal(SIGTERM)
            #expect(machine.code() == 0, "\(machine.errors)\n\(machine.output.suffix(1000))")
        }
        for other in others { expectNothingLeft(other) }
    }

    @Test func othersAreNotServed() throws {
        let network = try ContainerNetwork(resolver: "nameserver 127.0.0.11\n")
        let machine = try machine(["--net", "bridge"], in: network, script: "sleep 1")
        let heard = try network.start(
            network.peer, "timeout", "20", "tcpdump", "-i", "eth0", "-n", "-l", "port 67 or port 68 or port 547")
        #expect(eventually(within: 10) { heard.errors.contains("listening on") })
        let discover = scratch.file(
            "discover.py",
            """
            import socket, struct, sys
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            s.bind(("0.0.0.0", 68))
            s.settimeout(3)
            mac = bytes.fromhex(sys.argv[1].replace(":", ""))
            packet = struct.pack("!BBBBIHH4s4s4s4s16s64s128s", 1, 1, 6, 0, 0x12345678, 0, 0x8000, b"", b"", b"", b"", mac, b"", b"")
            s.sendto(packet + bytes([99, 130, 83, 99, 53, 1, 1, 255]), ("255.255.255.255", 67))
            try:
                s.recv(2000)
                print("answered")
            except TimeoutError:
                print("silence")
            """)
        // Also not who says that he is the machine.
        for mac in ["02:00:00:00:00:77", try nic(machine).mac] as [MACAddress] {
            #expect(try network.shell(network.peer, "python3 \(discover) \(mac)").output == "silence\n")
        }
        let name =
            "python3 -c \"import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); s.sendto(bytes.fromhex('123401000001000000000000016100000100 01'.replace(' ','')), ('\(ContainerNetwork.address)', 53)); s.recv(512)\""
        #expect(try network.shell(network.peer, name).code != 0)
        // The machine's own questions never left the container; only the two above are on docker0.
        heard.signal(SIGINT)
        heard.code()
        let requests = heard.output.split(separator: "\n").filter { !$0.contains("Request from 02:00:00:00:00:77") }
        #expect(requests.count == 1, "\(heard.output)")
        try end(machine)
    }

    @Test func namesAreRelayedWhereOnlyTheContainerCanAsk() throws {
        for mode in ["bridge", "takeover", "nat"] {
            let network = try ContainerNetwork(resolver: "search corp.example\nnameserver 127.0.0.11\n")
            try network.start(
                network.container, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
                "--listen-address=127.0.0.11",
                "--bind-interfaces", "--no-resolv", "--no-hosts", "--pid-file=", "--user=root",
                "--address=/web.corp.example/\(ContainerNetwork.beyondAddress)")
            let before = try network.snapshot()
            let machine = try machine(
                ["--net", mode], in: network, script: "nslookup web.corp.example | sed 's/^/says /'")
            #expect(
                machine.output.contains("says Address: \(ContainerNetwork.beyondAddress)"), "\(mode)\n\(machine.output)"
            )
            try end(machine)
            try expectSame(network, before)
        }
    }

    @Test func addressServerIsStartedAgain() throws {
        let network = try ContainerNetwork()
        let machine = try started(["--net", "bridge"], in: network)
        let server = try #require(processesNaming("\(scratch.path)/run").first { $0.contains("dnsmasq") })
        let first = try #require(server.split(separator: " ").first)
        kill(try #require(Int32(first)), SIGKILL)
        #expect(
            eventually(within: 20) {
                processesNaming("\(scratch.path)/run").contains { $0.contains("dnsmasq") && !$0.hasPrefix("\(first) ") }
            })
        #expect(machine.errors.contains("dnsmasq ended"))
        try endNow(machine)
    }

    /// A guest that has its address can do without.
    @Test func aMachineOutlivesItsAddressServer() throws {
        let network = try ContainerNetwork()
        let machine = try machine(["--net", "bridge"], in: network)
        let server = {
            processesNaming("\(self.scratch.path)/run").first { $0.contains("dnsmasq") }?.split(separator: " ").first
        }
        sleep(6)
        for _ in 0..<4 {
            #expect(eventually(within: 30) { server() != nil })
            if let pid = server().flatMap({ Int32($0) }) { kill(pid, SIGKILL) }
            #expect(eventually(within: 10) { server() == nil })
        }
        usleep(300_000)
        #expect(machine.isRunning, "\(machine.errors)")
        #expect(try network.pings(ContainerNetwork.highest, from: network.peer))
        try end(machine)
    }

    /// What its own address is, the guest learns by IPv6 too.
    @Test func guestHasSixAsWell() throws {
        let network = try ContainerNetwork()
        let machine = try machine(
            ["--net", "bridge"], in: network,
            script: """
                address=$(sed -n 's/.*"\\(fd01:[^"]*\\)".*/\\1/p' /run/seed/network-config | head -n 1)
                ip address add $address dev eth0
                sleep 2
                ping -6 -c 2 -W 5 fd01::3 > /dev/null && echo "reached by six"
                """)
        #expect(machine.output.contains("reached by six"), "\(machine.output)")
        // The guest itself tells it, since it took no lease.
        let six = try #require(try nic(machine).addresses.first { $0.isSix })
        #expect(try network.shell(network.peer, "ping -q -c 2 -W 5 \(six)").code == 0)
        try end(machine)
    }

    // MARK: - Its end

    @Test(arguments: ["bridge", "takeover", "nat"])
    func killedLauncherLeavesNothingThatTheNextDoesNotGiveBack(_ mode: String) throws {
        let network = try ContainerNetwork()
        let before = try network.snapshot()
        let first = try started(["--net", mode], in: network)
        first.signal(SIGKILL)
        #expect(first.code() == 128 + SIGKILL)
        #expect(try network.snapshot() != before)
        let again = try started(["--net", mode], in: network)
        #expect(again.errors.contains("giving back what a killed launcher left"))
        again.signal(SIGKILL)
        _ = again.code()
        let released = try network.shell(
            network.container, "\(Parts.snabbvm) release --name test --run-dir \(scratch.path)/run")
        #expect(released.code == 0, "\(released.errors)")
        expectNothingLeft(scratch)
        try expectSame(network, before)
    }

    /// /sys shows the network of who mounted it, which need not be that of the launcher.
    @Test func networkOfSysIsNotTrusted() throws {
        let network = try ContainerNetwork()
        let before = try network.snapshot()
        let wrapper = ["nsenter", "--net=/run/netns/\(network.container)"]
        try endNow(try started(["--net", "bridge"], in: network, wrapper: wrapper))
        try expectSame(network, before)
        try network.shell(network.container, "ip tuntap add dev tap7 mode tap; ip link set tap7 up")
        try endNow(try started(["--net", "tap:tap7"], in: network, wrapper: wrapper))
    }

    /// Elsewhere nothing of it is found, which does not mean that it is gone.
    @Test func aNetworkIsGivenBackWhereItIs() throws {
        let network = try ContainerNetwork()
        let before = try network.snapshot()
        let machine = try started(["--net", "bridge"], in: network)
        machine.signal(SIGKILL)
        _ = machine.code()
        let release = "\(Parts.snabbvm) release --name test --run-dir \(scratch.path)/run"
        let elsewhere = try network.shell(network.peer, release)
        #expect(elsewhere.code == FailureKind.cleanup.rawValue)
        #expect(elsewhere.errors.contains("it is in another network namespace; nsenter --net="), "\(elsewhere.errors)")
        #expect(try network.shell(network.container, release).code == 0)
        expectNothingLeft(scratch)
        try expectSame(network, before)
    }

    /// Odd settings that must come along, and back as they were: several addresses, labels, routes of all kinds,
    /// neighbours set by hand.
    @Test func interfaceComesBackAsItWas() throws {
        let network = try ContainerNetwork()
        try network.shell(
            network.container,
            """
            ip address add 172.17.0.22/16 dev eth0 label eth0:second
            ip address add 10.1.0.1/24 dev eth0 valid_lft 36000 preferred_lft 36000
            ip address add 10.2.0.1 peer 10.2.0.2 dev eth0
            ip address add 10.3.0.1/24 dev eth0 noprefixroute
            ip address add fd02::5/64 dev eth0 nodad
            ip address add fd02::6/128 dev eth0 nodad
            ip route add 10.9.0.0/16 via 172.17.0.9 mtu 1400 metric 5
            ip route add 10.10.0.0/16 dev eth0 scope link src 172.17.0.22
            ip route add 10.11.0.0/16 via 172.17.0.9 table 77
            ip route add fd09::/64 via fd01::9 metric 9
            ip route add 10.12.0.0/16 via 203.0.113.9 dev eth0 onlink
            ip neigh add 172.17.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent
            """)
        let neighbours = { try network.shell(network.container, "ip neigh show nud permanent").output }
        #expect(try neighbours().contains("172.17.0.99 dev eth0"))
        let lifetimes = { (text: String) in
            text.replacingOccurrences(
                of: #""(valid|preferred)_life_time":35[0-9]{3}"#, with: "", options: .regularExpression)
        }
        let before = lifetimes(try network.snapshot())
        let machine = try started(["--net", "bridge"], in: network)
        let moved = try network.shell(network.container, "ip -json route show table all").output
        for route in ["10.9.0.0/16", "10.10.0.0/16", "10.11.0.0/16", "10.12.0.0/16"] { #expect(moved.contains(route)) }
        #expect(try neighbours().contains("172.17.0.99 dev sv"))
        try endNow(machine)
        #expect(try neighbours().contains("172.17.0.99 dev eth0"))
        let same = try eventually(within: 20) { lifetimes(try network.snapshot()) == before }
        #expect(same)
        if !same { #expect(lifetimes(try network.snapshot()) == before) }
    }

    /// A container that is started again may have another address, and the old one another container.
    @Test func nothingIsGivenBackToAnotherInterface() throws {
        for isKilled in [true, false] {
            let network = try ContainerNetwork()
            let machine = try started(["--net", "bridge"], in: network)
            if isKilled {
                machine.signal(SIGKILL)
                _ = machine.code()
            }
            try network.reconnect(5)
            let before = try network.shell(network.container, "ip -json address show eth0").output
            if isKilled {
                let words = "release --name test --run-dir \(scratch.path)/run"
                #expect(try network.shell(network.container, "\(Parts.snabbvm) \(words)").code == 0)
            } else {
                #expect(try machine.ask("stop", "--now").code == 0)
                #expect(machine.code() == 0, "\(machine.errors)")
            }
            expectNothingLeft(scratch)
            #expect(try network.shell(network.container, "ip -json address show eth0").output == before)
        }
    }

    /// As in a pod, whose containers have one network.
    @Test func oneInterfaceIsOneMachines() throws {
        let network = try ContainerNetwork()
        let before = try network.snapshot()
        let others = (0..<2).map { _ in Scratch() }
        let machines = try others.map {
            try TestMachine(TestMachine.kernel + ["--net", "bridge"], in: $0, wrapper: network.wrapper)
        }
        #expect(eventually { machines.contains { !$0.isRunning } })
        let loser = try #require(machines.first { !$0.isRunning })
        let winner = try #require(machines.first { $0.isRunning })
        #expect(loser.code() == FailureKind.busy.rawValue)
        #expect(loser.errors.contains("another machine in this network namespace has it"), "\(loser.errors)")
        #expect(winner.isUp(), "\(winner.errors)")
        #expect(try network.pings(ContainerNetwork.highest, from: network.peer))
        // Later it is seen for what it is.
        let third = try TestMachine(TestMachine.kernel + ["--net", "bridge"], in: scratch, wrapper: network.wrapper)
        #expect(third.code() == FailureKind.network.rawValue)
        #expect(third.errors.contains("it is a bridge itself"), "\(third.errors)")
        winner.signal(SIGTERM)
        #expect(winner.code() == 0)
        try expectSame(network, before)
    }

    /// Two machines that take themselves for one.
    @Test func twinsAreSeen() throws {
        let network = try ContainerNetwork()
        let other = Scratch()
        let words = TestMachine.kernel + ["--net", "bridge", "--mac", "02:00:00:00:00:42"]
        let first = try TestMachine(words, in: other, wrapper: ["ip", "netns", "exec", network.peer])
        #expect(first.isUp(), "\(first.errors)")
        let second = try TestMachine(words, in: scratch, wrapper: network.wrapper)
        #expect(second.code() == FailureKind.network.rawValue)
        #expect(second.errors.contains("another host beside it has the same"), "\(second.errors)")
        first.signal(SIGTERM)
        #expect(first.code() == 0)
    }

    @Test func longTablesOfRoutesAreShortenedForDHCPAndProcessorsHaveQueues() throws {
        let network = try ContainerNetwork()
        try network.shell(
            network.container, "for i in $(seq 60); do ip route add 10.$i.0.0/16 via 172.17.0.3; done")
        let before = try network.snapshot()
        let machine = try machine(
            ["--net", "bridge", "--cpus", "2"], in: network,
            script: "echo \"queues $(ls -d /sys/class/net/eth0/queues/rx-* | wc -l)\"")
        #expect(try nic(machine).addressesFrom == .lease)
        #expect(machine.given("network-config")?.contains("10.60.0.0/16") == true)
        #expect(machine.output.contains("queues 2"), "\(machine.output)")
        #expect(try network.pings(ContainerNetwork.highest, from: network.peer))
        try end(machine)
        try expectSame(network, before)
    }

    /// Forwarding would make the kernel deaf to routers.
    @Test func natKeepsTheRouteThatARouterTold() throws {
        let network = try ContainerNetwork()
        try network.shell(network.container, "ip -6 route del default; sysctl -qw net.ipv6.conf.eth0.accept_ra=1")
        try network.advertise("fd01::", on: "docker0", every: "4")
        let hasRoute = { try network.shell(network.container, "ip -6 route show default").output.contains("proto ra") }
        #expect(try eventually(within: 30) { try hasRoute() })
        let machine = try started(["--net", "nat"], in: network)
        #expect(try hasRoute())
        try endNow(machine)
        #expect(try hasRoute())
        #expect(try network.shell(network.container, "cat /proc/sys/net/ipv6/conf/eth0/accept_ra").output == "1\n")
    }

    /// Addresses that are lent, two routers of the same weight, and one interface that is a router already.
    @Test func sixGoesOnAndComesBackAsItWas() throws {
        let network = try ContainerNetwork()
        try network.addNetwork(1)
        try network.shell(
            network.container,
            """
            ip -6 address del fd01::2/64 dev eth0
            ip -6 address add fd01::2/64 dev eth0 nodad valid_lft 36000 preferred_lft 36000
            ip -6 address add fd0a::2/64 dev eth1 nodad
            sysctl -qw net.ipv6.conf.eth1.forwarding=1 net.ipv6.conf.eth1.accept_ra=2
            ip -6 route flush default
            ip -6 route add default via fd01::1 dev eth0 metric 1024
            """)
        try network.shell(
            network.host, "ip -6 address add fd0a::1/64 dev br1 nodad; ip route add 172.18.0.2 dev br1")
        try network.advertise("fd0a::", on: "br1")
        #expect(
            try eventually(within: 30) {
                try network.shell(network.container, "ip -6 route show default").output.contains("dev eth1 proto ra")
            })
        network.settle()
        // Of routes that weigh the same the kernel puts the newest last.
        let state = {
            try network.snapshot().replacingOccurrences(
                of: #"("(valid|preferred)_life_time"|"expires"):[0-9]{4,5}"#, with: "", options: .regularExpression
            ).split(separator: "}").sorted()
        }
        let before = try state()
        let machine = try machine(["--net", "bridge", "--publish", "8080:80"], in: network)
        try network.shell(network.container, "ip -6 neighbour flush all")
        #expect(try network.shell(network.container, "ping -q -c 2 -W 5 fd01::3").code == 0)
        #expect(try network.shell(network.container, "ip -6 route show default").output.contains("fd01::1"))
        // Who is beside it finds no way through it.
        try network.shell(
            network.peer, "ip -6 route add fd0a::/64 via fd01::2; ip route add 172.18.0.0/16 via 172.17.0.2")
        #expect(try !network.pings("fd0a::1", from: network.peer))
        #expect(try !network.pings("172.18.0.1", from: network.peer))
        let page = try network.shell(network.peer, "curl -s --max-time 20 http://\(ContainerNetwork.address):8080/")
        #expect(page.output.contains("<h1>test</h1>"))
        try end(machine)
        _ = try eventually(within: 20) { try state() == before }
        #expect(try state() == before)
    }

    /// Neither is a bridge deaf that passes packets on, nor does one hear what the interface in it did not.
    @Test func aBridgeHearsRoutersAsTheInterfaceDid() throws {
        for accepts in [true, false] {
            let network = try ContainerNetwork()
            try network.shell(
                network.container, "ip -6 route del default; sysctl -qw net.ipv6.conf.eth0.accept_ra=\(accepts ? 1 : 0)"
            )
            let hasRoute = {
                try network.shell(network.container, "ip -6 route show default").output.contains("proto ra")
            }
            try network.advertise("fd01::", on: "docker0", every: "4,12")
            if accepts { #expect(try eventually(within: 30) { try hasRoute() }) }
            let machine = try started(["--net", "bridge", "--publish", "8080:80"], in: network)
            // Longer than a router's word counts.
            let heard = (0..<7).map { _ in
                sleep(2)
                return (try? hasRoute()) == true
            }
            #expect(heard.last == accepts, "\(accepts): \(heard)")
            try endNow(machine)
        }
    }

    @Test func imagesCanComeFromBeyond() throws {
        let network = try ContainerNetwork()
        let folder = scratch.folder("web")
        try FileManager.default.copyItem(atPath: Parts.demo, toPath: "\(folder)/demo.img")
        try network.serve(folder)
        let machine = try TestMachine(
            [
                "--net", "bridge", "--cache", "\(scratch.path)/cache",
                "http://\(ContainerNetwork.beyondAddress)/demo.img",
            ],
            in: scratch, wrapper: network.wrapper)
        #expect(machine.isUp(), "\(machine.errors)")
        #expect(try nic(machine).addresses.first?.description == ContainerNetwork.highest)
        try end(machine)
    }

    @Test func largePacketsPassWhoseverTheyAre() throws {
        let network = try ContainerNetwork()
        let machine = try machine(
            ["--net", "takeover"], in: network,
            script: "ping -c 1 -W 5 -s 4000 \(ContainerNetwork.peerAddress) > /dev/null && echo 'large and whole'")
        #expect(machine.output.contains("large and whole"))
        #expect(
            try network.shell(network.container, "ping -q -c 1 -W 5 -s 4000 \(ContainerNetwork.peerAddress)").code == 0)
        #expect(try network.shell(network.container, "ping -q -c 1 -W 5 -s 4000 fd01::3").code == 0)
        #expect(try network.shell(network.peer, "ping -q -c 1 -W 5 -s 4000 \(ContainerNetwork.address)").code == 0)
        try end(machine)
    }

    /// Neither when it comes nor when it goes; but for one that is on its way just then, on a host that is very busy.
    @Test func containerLosesNoPacketWhileABridgeTakesItsPlace() throws {
        let network = try ContainerNetwork()
        let pings = try network.start(
            network.peer, "ping", "-i", "0.02", "-c", "900", "-W", "1", ContainerNetwork.address)
        #expect(eventually(within: 10) { pings.output.contains("icmp_seq=20") })
        let machine = try machine(["--net", "bridge"], in: network)
        try end(machine)
        pings.signal(SIGINT)
        pings.code()
        let counts = pings.output.split(separator: "\n").first { $0.contains("packets transmitted") } ?? ""
        let numbers = counts.split(separator: " ").compactMap { Int($0) }
        #expect(numbers.count == 2 && numbers[0] > 100 && numbers[0] - numbers[1] <= 1, "\(pings.output.suffix(300))")
    }

    // MARK: - Ports

    @Test func publishedPortsLeadToTheGuest() throws {
        let network = try ContainerNetwork()
        let before = try network.snapshot()
        for mode in ["bridge", "nat"] {
            let machine = try machine(
                ["--net", mode, "--publish", "8080-8081,9000:80,8081,80", "--publish", "5353:53/udp"], in: network)
            for port in [8080, 9000] {
                let page = try network.shell(
                    network.peer, "curl -s --max-time 20 http://\(ContainerNetwork.address):\(port)/")
                #expect(page.output.contains("<h1>test</h1>"), "\(mode) \(port)")
            }
            // The guest has nothing that would answer a datagram: it is seen on its way in.
            let nic = try nic(machine)
            let heard = try network.start(
                network.container, "tcpdump", "-i", nic.device ?? "", "-n", "-l", "udp port 53")
            #expect(eventually(within: 10) { heard.errors.contains("listening on") })
            try network.shell(network.peer, "echo x > /dev/udp/\(ContainerNetwork.address)/5353")
            #expect(eventually(within: 10) { heard.output.contains("> \(nic.addresses[0]).53:") }, "\(mode)")
            heard.end()
            // Where nobody answers, ssh says so after as many tries as it was told.
            let refused = try network.shell(
                network.container,
                "\(Parts.snabbvm) ssh --name test --run-dir \(scratch.path)/run --attempts 2 --sleep 0.1 --tick 0")
            #expect(refused.code == FailureKind.network.rawValue)
            #expect(refused.errors.contains("Connection refused, after 2 tries"), "\(refused.errors)")
            try end(machine)
        }
        try expectSame(network, before)
    }

    // MARK: - What is there already

    @Test func joinsABridgeAndATap() throws {
        let network = try ContainerNetwork()
        try network.shell(
            network.container,
            """
            ip link add br0 type bridge
            ip link set eth0 master br0
            ip address flush dev eth0
            ip address add \(ContainerNetwork.address)/16 dev br0
            ip link set br0 up
            ip route add default via \(ContainerNetwork.gateway)
            ip tuntap add dev tap7 mode tap
            ip link set tap7 master br0 up
            """)
        // The tap itself has a link while it is open, and an address that the kernel gives it then.
        let left =
            "ls /sys/class/net /sys/class/net/br0/brif; ip -json address show br0; ip -json route; nft list ruleset"
        network.settle()
        let before = try network.shell(network.container, left).output
        let setUp = "ip address add 172.17.9.9/16 dev eth0; ip link set eth0 up"
        for options in [["--net", "bridge:br0"], ["--bridge", "br0", "--address", "none"], ["--net", "tap:tap7"]] {
            let machine = try machine(options, in: network, script: setUp)
            #expect(
                eventually(within: 20) { (try? network.pings("172.17.9.9", from: network.peer)) ?? false }, "\(options)"
            )
            // A bridge that changed its address would not be found by others for half a minute.
            #expect(
                try network.shell(network.container, "cat /sys/class/net/br0/address").output
                    == "\(ContainerNetwork.mac)\n")
            try end(machine)
            #expect(try network.shell(network.container, left).output == before)
        }
        // Where the bridge has an address, a free one can be had too.
        let machine = try machine(["--net", "bridge:br0", "--address", "auto"], in: network)
        #expect(try nic(machine).addresses.map(\.description) == [ContainerNetwork.highest])
        #expect(try nic(machine).addressesFrom == .lease)
        try end(machine)
    }

    @Test func joinsAMacvtap() throws {
        let network = try ContainerNetwork()
        let made = try network.shell(
            network.container, "ip link add link eth0 name mv0 type macvtap mode bridge && ip link set mv0 up")
        #expect(made.code == 0, "\(made.errors)")
        let machine = try machine(
            ["--net", "macvtap:mv0"], in: network, script: "ip address add 172.17.9.9/16 dev eth0; ip link set eth0 up")
        #expect(eventually(within: 20) { (try? network.pings("172.17.9.9", from: network.peer)) ?? false })
        let device = try network.shell(network.container, "cat /sys/class/net/mv0/address").output.trimmed
        #expect(try nic(machine).mac.description == device)
        try end(machine)
        #expect(try network.shell(network.container, "ip link show mv0").code == 0)
    }

    @Test func furtherNetworksBecomeFurtherNICs() throws {
        let network = try ContainerNetwork()
        try network.addNetwork(1)
        try network.addNetwork(2)
        let before = try network.snapshot()
        let script = """
            for number in 0 1 2; do echo "nic$number $(cat /sys/class/net/eth$number/address) $(ip -4 address show eth$number | sed -n 's/.*inet \\([^ ]*\\).*/\\1/p')"; done
            ping -c 1 -W 5 172.18.0.1 > /dev/null && echo "reached one"
            ping -c 1 -W 5 172.19.0.1 > /dev/null && echo "reached two"
            """
        for options in [
            ["--net-all", "--net", "bridge"], ["--net", "bridge", "--nic", "eth2=nat", "--nic", "eth1=takeover"],
        ] {
            let machine = try machine(options, in: network, script: script)
            let status = try machine.status().decode(MachineStatus.self)
            #expect(
                status.nics.map(\.interface)
                    == (options.count == 3 ? ["eth0", "eth1", "eth2"] : ["eth0", "eth2", "eth1"]))
            #expect(status.nics.map(\.name) == ["eth0", "eth1", "eth2"])
            for (index, nic) in status.nics.enumerated() {
                let prefix = nic.mode == .nat ? "24" : "16"
                #expect(
                    machine.output.contains("nic\(index) \(nic.mac) \(nic.addresses[0])/\(prefix)"), "\(machine.output)"
                )
            }
            #expect(
                machine.output.contains("reached one") && machine.output.contains("reached two"),
                "\(options)\n\(machine.output)")
            try end(machine)
            try expectSame(network, before)
        }
    }

    // MARK: - Sizes

    @Test func smallerNetworksStaySmall() throws {
        let network = try ContainerNetwork(mtu: 1400)
        for mode in ["bridge", "nat", "takeover"] {
            // A guest that takes no notice of what it is told.
            let heard = try network.start(
                network.peer, "tcpdump", "-i", "eth0", "-n", "-l", "tcp port 7777 and tcp[tcpflags] & tcp-syn != 0")
            #expect(eventually(within: 10) { heard.errors.contains("listening on") })
            let machine = try machine(
                ["--net", mode, "--qemu-arg", "-set", "--qemu-arg", "device.nic-eth0.host_mtu=0"], in: network,
                script: """
                    echo "mtu $(cat /sys/class/net/eth0/mtu)"
                    ip link set eth0 mtu 1500
                    nc -w 2 \(ContainerNetwork.peerAddress) 7777
                    """)
            #expect(machine.output.contains("mtu 1400"), "\(machine.output)")
            #expect(eventually(within: 10) { heard.output.contains("mss 1360") }, "\(mode)\n\(heard.output)")
            try end(machine)
            heard.end()
        }
    }

    // MARK: - What is refused

    private static let refused: [([String], String)] = [
        (["--net", "bridge", "--address", "10.0.0.5/24"], "outside of eth0's network; that is 172.17.0.0/16"),
        (["--net", "bridge", "--address", "172.17.5.5/16,10.0.0.1"], "can't reach it"),
        (["--net", "bridge", "--address", "172.17.0.3/16"], "02:42:ac:11:00:03 has it already"),
        (["--net", "bridge", "--address", "172.17.0.2/16"], "eth0 has 172.17.0.2/16 itself"),
        (["--net", "bridge", "--address", "172.17.0.1/16"], "that is the gateway's"),
        (["--net", "bridge", "--address", "172.17.255.255/16"], "no address for a host"),
        (["--net", "bridge", "--interface", "eth7"], "there is no such interface; there is eth0"),
        (["--net", "bridge", "--interface", "lo"], "leads nowhere"),
        (["--net", "tap:a-name-that-is-too-long"], "15 characters"),
        (["--net", "tap:tap9"], "there is no such tap"),
        (["--net", "tap:eth0"], "eth0 is no tap"),
        (["--net", "bridge:eth0"], "eth0 is no bridge but a veth"),
        (["--net", "macvtap:eth0"], "eth0 is no macvtap"),
        (["--net", "nat", "--publish", "5999:22"], "VNC listens on 5999"),
        (["--net", "nat", "--address", "172.17.3.2/24"], "has a route to 172.17.0.0/16"),
        (["--net", "takeover", "--publish", "8080:80"], "has the container's ports as they are"),
        (["--net", "takeover", "--mac", "02:00:00:00:00:09"], "has the interface's MAC address"),
        (["--net", "bridge", "--address", "dhcp", "--publish", "8080:80"], "address is not known beforehand"),
        (["--net", "user", "--net-all"], "for the networks of a container"),
        (["--net", "bridge", "--nic", "eth0=nat"], "given twice"),
        (["--net", "bridge", "--mac", ContainerNetwork.mac], "eth0 itself has this MAC address"),
        (["--net", "bridge", "--publish", "9.9.9.9:80:80"], "no address of eth0"),
        (["--net", "nat", "--address", "127.0.0.2/8"], "no address for a host"),
        (["--net", "nat", "--address", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"], "no address for a host"),
        (["--net", "user", "--interface", "eth0"], "takes no interface"),
        (["--net", "none", "--address", "auto"], "without an eth0"),
        (["--net", "user", "--publish", "5901:22"], "Address already in use"),
    ]

    @Test func badInputIsRefusedBeforeAnythingChanges() throws {
        let network = try ContainerNetwork()
        try network.start(network.container, "python3", "-m", "http.server", "5901")
        #expect(
            try eventually(within: 20) {
                try network.shell(network.container, "curl -s -o /dev/null http://127.0.0.1:5901/").code == 0
            })
        let before = try network.snapshot()
        for (words, expected) in NetworkTests.refused {
            let machine = try TestMachine(
                TestMachine.kernel + words, in: scratch, vnc: expected.hasPrefix("VNC") ? "5999" : "off",
                wrapper: network.wrapper)
            let code = machine.code()
            #expect([FailureKind.network.rawValue, FailureKind.usage.rawValue].contains(code), "\(words) \(code)")
            #expect(machine.errors.contains(expected), "\(words): \(machine.errors)")
            #expect(
                machine.errors.split(separator: "\n").filter { $0.contains("cannot ") }.count == 1, "\(machine.errors)")
            expectNothingLeft(scratch)
        }
        #expect(try network.snapshot() == before)
    }

    @Test func missingRightsAreNamed() throws {
        let network = try ContainerNetwork()
        let before = try network.snapshot()
        for (right, flag) in [("net_admin", "NET_ADMIN"), ("net_raw", "NET_RAW")] {
            let wrapper = network.wrapper + ["setpriv", "--bounding-set", "-\(right)", "--inh-caps", "-\(right)"]
            let machine = try TestMachine(TestMachine.kernel + ["--net", "bridge"], in: scratch, wrapper: wrapper)
            #expect(machine.code() == FailureKind.host.rawValue)
            #expect(machine.errors.contains("it needs the right \(flag)"), "\(machine.errors)")
        }
        #expect(try network.snapshot() == before)
    }

    /// Those that the README names are enough.
    @Test func fewRightsAreEnough() throws {
        let network = try ContainerNetwork()
        let before = try network.snapshot()
        let wrapper = ["setpriv", "--inh-caps", "-all", "--bounding-set", "-all,+net_admin,+net_raw,+net_bind_service"]
        let machine = try TestMachine(
            TestMachine.kernel + ["--net", "bridge"], in: scratch, wrapper: network.wrapper + wrapper)
        #expect(machine.isUp(), "\(machine.errors)")
        #expect(eventually { (try? nic(machine).addressesFrom) == .lease }, "\(machine.errors)")
        #expect(try network.pings(ContainerNetwork.highest, from: network.peer))
        try end(machine)
        try expectSame(network, before)
    }

    /// Where the host itself is, nothing is taken away from it.
    @Test func hostsOwnInterfacesAreNotTaken() throws {
        for mode in ["bridge", "takeover", "nat"] {
            let machine = try TestMachine(TestMachine.kernel + ["--net", mode], in: scratch)
            #expect(machine.code() == FailureKind.network.rawValue)
            #expect(machine.errors.contains("this is the host's own network"), "\(machine.errors)")
        }
    }
}

/// What QEMU passed between its two sides.
private struct Frames {
    struct Packet {
        var destination: String
        var length: Int
        var hasTransport: Bool
        var isWhole: Bool
        var summary: String
    }

    var packets: [Packet] = []

    /// The first few thousand of a file as tcpdump writes it.
    init(_ path: String) throws {
        let bytes = try Files.read(path, limit: 12 << 20)
        var at = 24
        while at + 16 <= bytes.count {
            let count = (0..<4).reversed().reduce(0) { $0 << 8 | Int(bytes[at + 8 + $1]) }
            guard at + 16 + count <= bytes.count else { break }
            packets.append(Frames.packet(bytes[(at + 16)..<(at + 16 + count)]))
            at += 16 + count
        }
    }

    private static func packet(_ slice: ArraySlice<UInt8>) -> Packet {
        // Some versions of QEMU write what stands before each frame between it and the tap: nothing, 10 or 12 bytes.
        let kinds: [[UInt8]] = [[8, 0], [8, 6], [0x86, 0xdd]]
        let start = [0, 10, 12].first { kinds.contains(Array(slice.dropFirst($0 + 12).prefix(2))) } ?? 0
        let frame = Array(slice.dropFirst(start))
        var packet = Packet(
            destination: MACAddress(bytes: frame.prefix(6)).description, length: frame.count, hasTransport: false,
            isWhole: true,
            summary: frame.prefix(60).map { hexadecimal(UInt64($0), digits: 2) }.joined())
        guard frame.count > 34, frame[12] == 8, frame[13] == 0 else { return packet }
        let header = Int(frame[14] & 15) * 4
        let total = Int(frame[16]) << 8 | Int(frame[17])
        let isFragment = frame[20] & 0x3f != 0 || frame[21] != 0
        guard [6, 17].contains(frame[23]), !isFragment, 14 + total <= frame.count else { return packet }
        let transport = frame[(14 + header)..<(14 + total)]
        // No checksum at all is allowed in UDP.
        if frame[23] == 17, transport[transport.startIndex + 6] == 0, transport[transport.startIndex + 7] == 0 {
            return packet
        }
        packet.hasTransport = true
        let length = transport.count
        let pseudo = Array(frame[26..<34]) + [0, frame[23], UInt8(length >> 8), UInt8(length & 0xff)]
        var sum: UInt32 = 0
        for part in [pseudo, Array(transport)] {
            part.withUnsafeBytes { part in
                for index in stride(from: 0, to: part.count, by: 2) {
                    sum &+= UInt32(part[index]) << 8 | (index + 1 < part.count ? UInt32(part[index + 1]) : 0)
                }
            }
        }
        while sum >> 16 != 0 { sum = sum & 0xffff + sum >> 16 }
        packet.isWhole = sum == 0xffff
        return packet
    }
}
