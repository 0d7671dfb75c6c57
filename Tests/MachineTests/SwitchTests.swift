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

/// What is cured of Snabb's vhost-user and drivers: each failure is shown without its cure, and its absence with it.
@Suite(
    .enabled(if: Parts.has("snabb"), "snabb is not installed"), .enabled(if: Parts.isRoot, "only root may"), .serialized
)
struct SwitchTests {
    private static let script = "\(Parts.folder)/Tests/switch/cure"

    private static let cures: [String] =
        (try? run(script, ["--list"]).output.split(separator: "\n").map(String.init)) ?? []
    private static let guestCures = cures.filter { $0.hasPrefix("virtio-") }
    private static let hostCures = cures.filter { !$0.hasPrefix("virtio-") }

    @Test func thereAreCures() { #expect(SwitchTests.cures.count > 20) }

    @Test(arguments: hostCures)
    func cure(_ name: String) throws {
        let outcome = try run(SwitchTests.script, [name])
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
    }

    /// Those of the driver for virtio-net by PCI address, in a machine that has such an NIC.
    @Test(.enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"))
    func curesOfTheDriver() throws {
        #expect(SwitchTests.guestCures.count > 4)
        let outcome = try run(SwitchTests.script, SwitchTests.guestCures)
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
    }

    /// SNABBVM_TEST_RESTARTS=200 for what it was made to stand.
    private static let restarts = Int(ProcessInfo.processInfo.environment["SNABBVM_TEST_RESTARTS"] ?? "") ?? 8

    /// One switch and one QEMU after the other, each killed when its guest's driver runs: no descriptor, no mapping and
    /// no hugepage more than before.
    @Test(.enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"))
    func outlivesManyMachines() throws {
        let hugepages = try Hugepages(80)
        defer { withExtendedLifetime(hugepages) {} }

        let scratch = Scratch()
        let wire = try Wire(tap: "tap0")
        let port = try BareSwitch(scratch, wire)
        let counts = { () -> (descriptors: Int, mappings: Int) in
            let maps = FileTree().text("/proc/\(port.pid)/maps") ?? ""
            return (Files.names("/proc/\(port.pid)/fd").count, maps.split(separator: "\n").count)
        }
        var first = counts()
        for number in 1...SwitchTests.restarts {
            try port.runMachine(number)
            #expect(eventually(within: 20) { Hugepages.free == 80 }, "machine \(number)")
            // The first ones are what it has learnt from.
            if number == 3 { first = counts() }
        }
        let last = counts()
        #expect(last.descriptors <= first.descriptors, "\(first) then \(last)")
        #expect(last.mappings <= first.mappings + 8, "\(first) then \(last)")
        port.end()
    }
}

/// A switch without a launcher, and machines that come and go.
private final class BareSwitch {
    private let process = Process()
    private let lifeline = Pipe()
    private let events = temporaryFile()
    private let socket: String
    var pid: Int32 { process.processIdentifier }

    init(_ scratch: Scratch, _ wire: Wire) throws {
        socket = "\(scratch.path)/vm.sock"
        let settings = scratch.file(
            "port.json", #"{"name": "x", "socket": "\#(socket)", "device": {"kind": "tap", "interface": "tap0"}}"#)
        process.executableURL = URL(fileURLWithPath: Parts.path(of: "ip"))
        let program = "\(Parts.folder)/docker/switch/port.lua"
        process.arguments = ["netns", "exec", wire.host, Parts.path(of: "snabb"), "snsh", program, settings]
        process.environment = ["SNABB_SHM_ROOT": scratch.folder("shm")]
        process.standardInput = lifeline
        process.standardOutput = events.handle
        try process.run()
    }

    private func count(_ event: String) -> Int {
        events.text.components(separatedBy: #"{"event":"\#(event)"}"#).count - 1
    }

    func runMachine(_ number: Int) throws {
        unlink(socket)
        let qemu = Process()
        qemu.executableURL = URL(fileURLWithPath: Parts.path(of: "qemu-system-x86_64"))
        qemu.arguments = [
            "-nodefaults", "-display", "none", "-machine", "q35,memory-backend=memory", "-accel", "tcg", "-m", "128",
            "-object", "memory-backend-memfd,id=memory,size=128M,share=on,hugetlb=on,hugetlbsize=2M,prealloc=on",
            "-kernel", "\(Parts.shareFolder)/demo-kernel", "-initrd", "\(Parts.shareFolder)/demo-initrd",
            "-append", "quiet cryptomgr.notests noreplace-smp", "-chardev",
            "socket,id=c,path=\(socket),server=on,wait=off",
            "-netdev", "vhost-user,id=n,chardev=c", "-device", "virtio-net-pci,netdev=n,romfile=,vectors=0",
        ]
        qemu.standardError = FileHandle.nullDevice
        try qemu.run()
        #expect(eventually { self.count("up") == number }, "\(events.text)")
        kill(qemu.processIdentifier, SIGKILL)
        qemu.waitUntilExit()
        #expect(eventually { self.count("disconnected") == number }, "\(events.text)")
    }

    func end() {
        try? lifeline.fileHandleForWriting.close()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
    }

    deinit { if process.isRunning { kill(pid, SIGKILL) } }
}
