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

/// Real switches with a real guest, and a peer at the other end of a wire.
@Suite(
    .enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"),
    .enabled(if: Parts.isRoot, "only root may take ports"), .serialized)
struct PortTests {
    private let scratch = Scratch()

    static let hasSnabb = Parts.has("snabb")
    static let noSnabb: Comment = "snabb is not installed"
    static let hasTestpmd = Parts.has("dpdk-testpmd")
    static let noTestpmd: Comment = "dpdk-testpmd is not installed"

    private static let setUp = """
        ip link set eth1 up
        ip address add \(Wire.guestAddress)/24 dev eth1
        """

    /// A machine with these ports, whose guest has run the script.
    private func machine(
        _ ports: [String], on wire: Wire, script: String = setUp, options: [String] = []
    ) throws -> TestMachine {
        let user = scratch.file("script", "#!/bin/sh\n\(script)\necho port-re''ady\n")
        let words = TestMachine.kernel + ["-u", user] + options + ports
        let machine = try TestMachine(words, in: scratch, wrapper: wire.wrapper)
        #expect(machine.shows("port-ready"), "\(machine.errors)\n\(machine.output.suffix(2000))")
        return machine
    }

    private func end(_ machine: TestMachine) throws {
        machine.signal(SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    private func ports(of machine: TestMachine) throws -> [PortStatus] {
        try JSON(parsing: try machine.ask("ports", "--json").output).decode([PortStatus].self)
    }

    private func answers(_ wire: Wire, _ options: String = "") -> Bool {
        eventually(within: 20) { (try? wire.pings(options)) ?? false }
    }

    // MARK: Frames

    private static let transfers = """
        head -c 20000000 /dev/urandom > /www/data
        echo "digest $(sha256sum /www/data | head -c 64)"
        (nc -l -p 9000 | sha256sum | sed 's/^/received /') &
        (ping -c 1000 10.77.0.99 > /dev/null 2>&1) &
        """

    /// 20 MB each way by TCP, whole; a broadcast with its address intact; and counters that agree.
    private func expectFrames(_ port: String, _ wire: Wire) throws {
        let mac = "52:54:00:12:34:56"
        let machine = try machine(
            [port + ",mac=\(mac)"], on: wire, script: PortTests.setUp + "\n" + PortTests.transfers)
        #expect(answers(wire))
        let broadcast = try wire.shell(
            "timeout 20 tcpdump -i \(wire.peerInterface) -e -n -c 1 arp and ether src \(mac) and ether dst ff:ff:ff:ff:ff:ff"
        )
        #expect(broadcast.output.contains("who-has 10.77.0.99"), "\(broadcast.errors)")

        let down = try wire.shell("curl -sS --max-time 100 http://\(Wire.guestAddress)/data | sha256sum")
        let digest = down.output.prefix(64)
        #expect(digest.count == 64 && machine.output.contains("digest \(digest)"), "\(down.errors)")
        let file = scratch.file("up", [])
        let up = try wire.shell(
            "head -c 20000000 /dev/urandom > \(file); timeout 100 cat \(file) > /dev/tcp/\(Wire.guestAddress)/9000; sha256sum < \(file)"
        )
        #expect(machine.shows("received \(up.output.prefix(64))"), "\(up.errors)")

        let status = try #require(try ports(of: machine).first)
        #expect(status.state == .up && status.restarts == 0 && status.mac?.description == mac)
        // testpmd tells once a second.
        #expect(
            try eventually(within: 10) {
                let counters = try ports(of: machine).first?.counters
                return counters.map { $0.txBytes > 20_000_000 && $0.rxBytes > 20_000_000 } ?? false
            })
        try end(machine)
    }

    @Test(.enabled(if: hasSnabb, noSnabb)) func framesFlowThroughAnInterfaceBySnabb() throws {
        let wire = try Wire()
        try expectFrames("if:wire0", wire)
        #expect(try wire.hostShell("ip -d link show wire0").output.contains("promiscuity 0"))
    }

    @Test(.enabled(if: hasSnabb, noSnabb)) func framesFlowByXDP() throws {
        let wire = try Wire()
        try wire.shell("ethtool -K wire1 tx off tso off gso off")
        // The namespace's own /sys lacks the file system that XDP's maps are in.
        wire.inner = ["sh", "-c", "mount -t bpf bpf /sys/fs/bpf && exec \"$@\"", "sh"]
        try expectFrames("if:wire0,driver=xdp", wire)
        #expect(try !wire.hostShell("ip link show wire0").output.contains("xdp"))
    }

    @Test(.enabled(if: hasTestpmd, noTestpmd)) func framesFlowThroughAnInterfaceByDPDK() throws {
        let wire = try Wire()
        // testpmd takes frames as they are: no peer may leave its checksums and segments to a card.
        try wire.shell("ethtool -K wire1 tx off tso off gso off")
        try expectFrames("if:wire0,engine=dpdk", wire)
    }

    @Test(.enabled(if: hasSnabb, noSnabb)) func framesFlowThroughATapBySnabb() throws {
        let wire = try Wire(tap: "tap0")
        try expectFrames("tap:tap0", wire)
        #expect(try wire.hostShell("ip link show tap0").output.contains("tap0"), "it was there before")
    }

    /// A tap that was not there is made, and goes with the machine.
    @Test(.enabled(if: hasSnabb, noSnabb)) func makesATap() throws {
        let wire = try Wire()
        let machine = try machine(["tap:tap7"], on: wire)
        #expect(try wire.hostShell("ip -br link show tap7").output.contains("UP"))
        try end(machine)
        #expect(try wire.hostShell("ip link show tap7").code != 0)
    }

    @Test(.enabled(if: hasSnabb, noSnabb)) func largeFramesPass() throws {
        let wire = try Wire(mtu: 9000)
        let script = PortTests.setUp + "\nip link set eth1 mtu 9000"
        let machine = try machine(["if:wire0,mtu=9000"], on: wire, script: script)
        #expect(answers(wire))
        #expect(answers(wire, "-s 8000 -M do"))
        try end(machine)
    }

    /// The guest sees the ports in the order in which they were given.
    @Test(.enabled(if: hasSnabb, noSnabb)) func keepsTheOrderOfPorts() throws {
        let wire = try Wire()
        let macs = ["52:54:00:00:00:0b", "52:54:00:00:00:0a", "52:54:00:00:00:0c"]
        let machine = try machine(
            ["if:wire0,mac=\(macs[0])", "tap:t1,mac=\(macs[1])", "tap:t2,name=wan,mac=\(macs[2])"], on: wire,
            script: "for n in 1 2 3; do echo port-is eth$n $(cat /sys/class/net/eth$n/address); done")
        for (index, mac) in macs.enumerated() { #expect(machine.output.contains("port-is eth\(index + 1) \(mac)")) }
        #expect(try ports(of: machine).map(\.name) == ["xe0", "xe1", "wan"])
        let status = try machine.ask("status").output
        #expect(status.contains("wan") && status.contains("tap:t2 by snabb"))
        try end(machine)
    }

    // MARK: Settings

    /// The frame as the wire has it, for a guest that knows nothing of VLANs; and all that changes while it runs.
    @Test(.enabled(if: hasSnabb, noSnabb)) func settingsHaveEffectAndChangeWhileItRuns() throws {
        let wire = try Wire()
        let peers = try [100, 200].map { try VLANPeer($0, wire) }
        let file = scratch.file("ports.json", #"[{"port": "if:wire0", "vlan": 100}]"#)
        let script =
            PortTests.setUp + """

                for net in 100 200; do ip address add 10.77.$net.2/24 dev eth1; done
                head -c 4000000 /dev/zero > /www/data
                """
        let machine = try machine(["if:wire0"], on: wire, script: script, options: ["--ports-file", file])
        let pid = try ports(of: machine).first?.pid
        let reached = { (net: Int) in (try? wire.shell("ping -q -c 1 -W 1 10.77.\(net).2").code == 0) ?? false }
        let change = { (settings: String) in
            _ = scratch.file("ports.json", #"[{"port": "if:wire0"\#(settings)}]"#)
        }
        #expect(eventually(within: 20) { reached(100) })
        #expect(!reached(200) && !reached(0))
        change(#", "vlan": 200"#)
        #expect(eventually(within: 20) { reached(200) })
        #expect(!reached(100))
        change("")
        #expect(eventually(within: 20) { reached(0) })
        #expect(!reached(200))

        change(#", "filter-in": "arp or tcp""#)
        #expect(eventually(within: 20) { !reached(0) })
        #expect(try wire.shell("curl -sS --max-time 20 -o /dev/null http://\(Wire.guestAddress)/data").code == 0)
        change(#", "filter-out": "arp""#)
        #expect(
            eventually(within: 20) {
                (try? wire.shell("curl -sS --max-time 2 -o /dev/null http://\(Wire.guestAddress)/data").code != 0)
                    ?? false
            })

        // 4 MB at 8 Mbit/s take 4 s; 50 times as much without a limit would not.
        change(#", "tx-limit": "8M""#)
        #expect(eventually(within: 20) { reached(0) })
        let time = { () throws -> Double in
            let outcome = try wire.shell(
                "curl -sS --max-time 60 -o /dev/null -w '%{time_total}' http://\(Wire.guestAddress)/data")
            return Double(outcome.output) ?? 0
        }
        let limited = try time()
        change("")
        #expect(eventually(within: 20) { (try? ports(of: machine).first?.settings.txLimit == nil) ?? false })
        usleep(500_000)
        let free = try time()
        #expect(limited > 3 && limited > 2 * free, "\(limited) s with the limit, \(free) s without")

        // A mistake costs nothing.
        change(#", "filter-in": "no such filter""#)
        #expect(eventually(within: 20) { machine.errors.contains("xe0 stays as it is") }, "\(machine.errors)")
        change(#", "mtu": 9000"#)
        #expect(eventually(within: 20) { machine.errors.contains("a new mtu waits") })
        _ = scratch.file("ports.json", "[")
        #expect(eventually(within: 20) { machine.errors.contains("not JSON") })
        #expect(reached(0))
        #expect(try ports(of: machine).first?.pid == pid, "the switch is the same")
        for peer in peers { peer.end() }
        try end(machine)
    }

    // MARK: Deaths

    /// Under traffic: the guest's link stays, and each time frames flow again soon.
    private func expectSurvivesKills(_ port: String, _ count: Int) throws {
        let wire = try Wire()
        let machine = try machine([port], on: wire)
        #expect(answers(wire))
        let log = "\(scratch.path)/pings"
        try wire.shell("ping -D -i 0.05 \(Wire.guestAddress) > \(log) & echo $! > \(log).pid")
        var pids: Set<Int32> = []
        for _ in 0..<count {
            let pid = try #require(try ports(of: machine).first?.pid)
            #expect(pids.insert(pid).inserted)
            kill(pid, SIGKILL)
            #expect(
                try eventually(within: 30) {
                    let port = try ports(of: machine).first
                    return port?.state == .up && port?.pid != pid
                }, "\(machine.errors)")
            usleep(300_000)
        }
        try wire.shell("kill -INT $(cat \(log).pid)")
        let times = (try String(contentsOfFile: log, encoding: .utf8)).split(separator: "\n").compactMap { line in
            line.hasPrefix("[") ? Double(line.dropFirst().prefix { $0 != "]" }) : nil
        }
        let longest = zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? .infinity
        // A second each is what is promised; these machines may be slower at times.
        #expect(times.count > count && longest < 3, "\(longest) s without an answer; \(machine.errors)")
        #expect(try ports(of: machine).first?.restarts == count)
        #expect(try machine.ask("status").output.contains("running"))
        try end(machine)
    }

    @Test(.enabled(if: hasSnabb, noSnabb)) func aKilledSnabbIsBackAtOnce() throws {
        try expectSurvivesKills("if:wire0", 20)
    }

    @Test(.enabled(if: hasTestpmd, noTestpmd)) func aKilledTestpmdIsBackAtOnce() throws {
        try expectSurvivesKills("if:wire0,engine=dpdk", 3)
    }

    @Test(.enabled(if: hasSnabb, noSnabb)) func aKilledQEMUEndsCleanly() throws {
        let wire = try Wire()
        let machine = try machine(["if:wire0", "tap:t1"], on: wire)
        let qemu = try #require(Int32(try machine.status()["pid"]?.integer ?? 0))
        kill(qemu, SIGKILL)
        #expect(machine.code() == FailureKind.qemu.rawValue)
        expectNothingLeft(scratch)
        #expect(try wire.hostShell("ip link show t1").code != 0)
    }

    /// With the launcher its switches end by themselves; what else is left, release gives back.
    @Test(.enabled(if: hasSnabb, noSnabb)) func aKilledLauncherLeavesNoSwitch() throws {
        let wire = try Wire()
        let machine = try machine(["if:wire0", "tap:t1"], on: wire)
        machine.signal(SIGKILL)
        _ = machine.code()
        #expect(eventually(within: 20) { processesNaming("\(self.scratch.path)/run/test/ports").isEmpty })
        #expect(try wire.hostShell("ip link show t1").code == 0)
        let words =
            wire.wrapper.dropFirst() + [Parts.snabbvm, "release", "--name", "test", "--run-dir", "\(scratch.path)/run"]
        let outcome = try run("ip", Array(words))
        #expect(outcome.code == 0, "\(outcome.errors)")
        expectNothingLeft(scratch)
        #expect(try wire.hostShell("ip link show t1").code != 0)
    }

    /// Its own last words, and no waiting for ever.
    @Test(.enabled(if: hasSnabb, noSnabb)) func aSwitchThatCannotRunFailsTheStart() throws {
        let wire = try Wire()
        // A tap that another has open.
        try wire.hostShell("ip tuntap add tap9 mode tun")
        let machine = try TestMachine(
            TestMachine.kernel + ["--switch-retries", "2", "tap:tap9"], in: scratch, wrapper: wire.wrapper)
        #expect(machine.code() == FailureKind.port.rawValue)
        let line = machine.errors.split(separator: "\n").last ?? ""
        #expect(line.hasPrefix("snabbvm: cannot run the switch of port xe0 (tap:tap9): port: "), "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    @Test(.enabled(if: hasSnabb, noSnabb)) func aFilterThatSnabbDoesNotKnowIsRefusedAtOnce() throws {
        let wire = try Wire()
        let machine = try TestMachine(
            TestMachine.kernel + ["if:wire0,filter-in=ipx or"], in: scratch, wrapper: wire.wrapper)
        #expect(machine.code() == FailureKind.usage.rawValue)
        #expect(machine.errors.contains("ipx or"), "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    // MARK: What is seen

    @Test(.enabled(if: hasSnabb, noSnabb)) func aPortHasAWindow() throws {
        let wire = try Wire()
        let machine = try machine(["if:wire0"], on: wire)
        #expect(answers(wire))
        let outcome = try run(
            "timeout", ["3", Parts.snabbvm, "console", "xe0", "--name", "test", "--run-dir", "\(scratch.path)/run"])
        #expect(outcome.output.contains("port xe0: if:wire0 by snabb (raw), eth1 in the machine"), "\(outcome.output)")
        #expect(outcome.output.contains("up  rx "))
        let none = try machine.ask("console", "xe1")
        #expect(none.code == FailureKind.usage.rawValue && none.errors.contains("there is screen, serial, log, xe0"))
        let table = try machine.ask("ports").output.split(separator: "\n")
        #expect(table.count == 2 && table[1].hasPrefix("xe0   eth1   if:wire0"))
        try end(machine)
    }
}

/// A host in a VLAN at the other end of the wire, 10.77.VLAN.1.
private final class VLANPeer {
    private let process = Process()
    private let lifeline = Pipe()

    init(_ vlan: Int, _ wire: Wire) throws {
        try Wire.ip("-n", wire.peer, "tuntap", "add", "v\(vlan)", "mode", "tap")
        try Wire.ip("-n", wire.peer, "link", "set", "v\(vlan)", "up")
        try Wire.ip("-n", wire.peer, "address", "add", "10.77.\(vlan).1/24", "dev", "v\(vlan)")
        process.executableURL = URL(fileURLWithPath: Parts.path(of: "ip"))
        process.arguments =
            [
                "netns", "exec", wire.peer, Parts.path(of: "snabb"), "snsh",
                "\(Parts.folder)/Tests/switch/vlan_peer.lua",
            ]
            + ["wire1", "v\(vlan)", "\(vlan)"]
        process.standardInput = lifeline
        try process.run()
    }

    func end() {
        try? lifeline.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }
}
