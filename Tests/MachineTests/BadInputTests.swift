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

/// Each wrong argument and missing part, through the real program: one line, its own exit code, nothing left behind.
@Suite(.enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"), .serialized)
struct BadInputTests {
    private let scratch = Scratch()

    private func expectLine(
        _ kind: FailureKind, _ words: String, _ arguments: [String], environment: [String: String] = [:],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let all =
            TestMachine.options(scratch, name: "test")
            + ["--vnc", "off", "--accel", "tcg", "-m", "128", "--hugepages", "off"] + arguments
        let outcome = try run(Parts.snabbvm, all, environment: environment, in: scratch.path)
        let lines = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("snabbvm: cannot") }
        #expect(outcome.code == kind.rawValue, "\(outcome)", sourceLocation: sourceLocation)
        #expect(lines.count == 1, "\(outcome.errors)", sourceLocation: sourceLocation)
        #expect(lines.first?.contains(words) == true, "\(outcome.errors)", sourceLocation: sourceLocation)
        expectNothingLeft(scratch, sourceLocation: sourceLocation)
    }

    @Test func arguments() throws {
        try expectLine(.usage, "did you mean --memory?", ["--memor", "1G", "demo"])
        try expectLine(.usage, "no IMAGE given", [])
        try expectLine(.usage, "no disk is kept in", ["--state", "\(scratch.path)/none"])
        try expectLine(.usage, "'lots' is not SIZE", ["-m", "lots", "demo"])
        try expectLine(.usage, "SNABBVM_CPUS=many", ["demo"], environment: ["SNABBVM_CPUS": "many"])
        try expectLine(.usage, "no such user", ["--qemu-user", "nobody-at-all", "demo"])
        try expectLine(
            .usage, "longer than 107 bytes",
            ["--run-dir", "\(scratch.path)/\(String(repeating: "long", count: 30))", "demo"])
        try expectLine(
            .usage, "there is no password in it",
            ["--vnc", "\(freePort())", "--vnc-password-file", scratch.file("none", "\n"), "demo"])
    }

    /// What stands in a stranger's folder speaks for no machine, and tmux would run what he likes.
    @Test(.enabled(if: Parts.isRoot && Parts.has("/usr/bin/python3"), "there is no root, or no python3"))
    func aStrangersFolderOrLauncherIsNotBelieved() throws {
        let folder = scratch.folder("theirs")
        _ = scratch.file("theirs/vm.ledger", "")
        chown(folder, 12345, 12345)
        for verb in ["status", "stop", "console", "ports", "ssh", "release"] {
            let outcome = try run(Parts.snabbvm, [verb, "--name", "vm", "--run-dir", folder])
            #expect(outcome.code == FailureKind.host.rawValue, "\(verb): \(outcome)")
            #expect(outcome.errors.contains("\(folder) belongs to user 12345"), "\(verb): \(outcome)")
        }
        try expectRefusedStart(folder)
        // The folder is ours, and a stranger listens there all the same.
        let run = scratch.folder("ours")
        _ = scratch.file("ours/vm.ledger", "")
        _ = scratch.folder("ours/vm")
        let script = """
            import os, socket, sys, time
            server = socket.socket(socket.AF_UNIX)
            server.bind(sys.argv[1])
            os.setuid(12345)
            server.listen(5)
            print("listens", flush=True)
            time.sleep(600)
            """
        let stranger = try Background("/usr/bin/python3", ["-c", script, "\(run)/vm/control"])
        try #require(eventually { stranger.output == "listens\n" }, "\(stranger.errors)")
        for verb in ["status", "stop", "ports"] {
            let outcome = try TestSupport.run(Parts.snabbvm, [verb, "--name", "vm", "--run-dir", run])
            #expect(outcome.code == FailureKind.noMachine.rawValue, "\(verb): \(outcome)")
            #expect(outcome.errors.contains("its launcher is another user's"), "\(verb): \(outcome)")
        }
    }

    /// Where an ordinary user looks who says nothing, and who could have been there first.
    @Test(.enabled(if: Parts.isRoot && Parts.has("setpriv"), "only root can become another user"))
    func aUsersFolderIsNoStrangers() throws {
        let uid = UInt32.random(in: 1_000_000_000..<1_100_000_000)
        let home = scratch.folder("home")
        chown(home, uid, uid)
        let program = "\(scratch.path)/snabbvm"
        try FileManager.default.copyItem(atPath: Parts.snabbvm, toPath: program)
        let user = ["--reuid", "\(uid)", "--regid", "\(uid)", "--clear-groups", program, "status", "--name", "vm"]
        let status = { (settings: [String: String]) in
            try run("setpriv", user, environment: ["XDG_RUNTIME_DIR": ""].merging(settings) { $1 })
        }
        let places = [
            (["HOME": home], "\(home)/.local/state/snabbvm"), (["HOME": "/"], "/tmp/snabbvm-\(uid)/snabbvm"),
            (["HOME": home, "XDG_RUNTIME_DIR": home], "\(home)/snabbvm"),
        ]
        for (settings, place) in places {
            let outcome = try status(settings)
            #expect(
                outcome.code == FailureKind.noMachine.rawValue && outcome.errors.contains("below \(place)"),
                "\(outcome)")
        }
        let trap = "/tmp/snabbvm-\(uid)"
        try #require(mkdir(trap, 0o755) == 0)
        defer { rmdir(trap) }
        chown(trap, uid + 1, uid + 1)
        let outcome = try status(["HOME": "/"])
        #expect(outcome.code == FailureKind.host.rawValue, "\(outcome)")
        #expect(outcome.errors.contains("\(trap) belongs to user \(uid + 1)"), "\(outcome)")
    }

    private func expectRefusedStart(_ folder: String) throws {
        let machine = try TestMachine(["--run-dir", folder, "demo"], in: scratch)
        #expect(machine.code() == FailureKind.host.rawValue)
        #expect(machine.errors.contains("belongs to user 12345"), "\(machine.errors)")
    }

    @Test func keptDisksThatStandOnAnotherImage() throws {
        let image = scratch.file(
            "disk.img", [UInt8](repeating: 0x55, count: 510) + [0x55, 0xaa] + [UInt8](repeating: 1, count: 4096))
        let state = "\(scratch.path)/state"
        let stub = ["--qemu", "/bin/false", "--state", state]
        try expectLine(.qemu, "exit code 1", stub + [image])
        #expect(Files.names(state).sorted() == ["disk.img", "machine.json"])
        let before = try Files.read("\(state)/disk.img", limit: 1 << 20)
        try expectLine(.image, "is another image", stub + ["--format", "raw", Parts.demo])
        _ = scratch.file("disk.img", [UInt8](repeating: 0x55, count: 510) + [0x55, 0xaa, 2])
        try expectLine(.image, "was changed since", stub + [image])
        unlink(image)
        try expectLine(.image, "there is no such file", stub)
        unlink("\(state)/machine.json")
        try expectLine(.image, "stands on \(image), which is not there", stub + [Parts.demo])
        #expect(try Files.read("\(state)/disk.img", limit: 1 << 20) == before)
    }

    /// The disk of a --state folder that stands where disks are that are not kept.
    @Test func aForgottenStateOptionNeverCostsTheDisk() throws {
        let state = "\(scratch.path)/disks/test"
        let words =
            TestMachine.options(scratch, name: "test") + [
                "--vnc", "off", "-m", "128", "--hugepages", "off", "--qemu", "/bin/false", "demo",
            ]
        #expect(try run(Parts.snabbvm, words + ["--state", state]).code == FailureKind.qemu.rawValue)
        let before = try Files.read("\(state)/disk.img", limit: 1 << 24)
        let outcome = try run(Parts.snabbvm, words)
        #expect(outcome.code == FailureKind.image.rawValue)
        #expect(outcome.errors.contains("boot it with --state \(state)"), "\(outcome.errors)")
        #expect(try Files.read("\(state)/disk.img", limit: 1 << 24) == before)
        #expect(Files.names(state).sorted() == ["disk.img", "machine.json"])
    }

    /// A crash of the whole host takes the ledger, which is in memory, and leaves the disks.
    @Test func leftoversOfACrashedHostGoWithTheNextMachine() throws {
        for name in ["disk.img", "disk.img.new", "firmware-variables.fd", "made-by-snabbvm"] {
            _ = scratch.file("disks/test/\(name)", "x")
        }
        try expectLine(.qemu, "exit code 1", ["--qemu", "/bin/false", "demo"])
    }

    @Test func images() throws {
        try expectLine(.image, "neither in /u nor in", ["nowhere.qcow2"])
        try expectLine(.image, "did you mean disk.qcow2?", [scratch.file("disk.qcow2", "x") + "2"])
        try expectLine(.image, "it is a folder", [scratch.folder("folder")])
        try expectLine(.image, "it is empty", [scratch.file("empty.img", "")])
        try expectLine(.image, "no boot sector", [scratch.file("letter.txt", "Dear machine,\n")])
        try expectLine(.image, "cut short", [scratch.file("disk.gz", [0x1f, 0x8b, 8, 0])])
        try expectLine(
            .image, "https://example.org/vmlinuz: only images are fetched",
            ["--kernel", "https://user:secret@example.org/vmlinuz", "--append", "quiet"])
        try expectLine(.image, "disks only grow", ["--disk-size", "1M", "--format", "raw", Parts.demo])
        try expectLine(
            .image, "no ISO 9660", ["--cdrom", scratch.file("cd.iso", [UInt8](repeating: 1, count: 40000)), "demo"])
        try expectLine(.image, "there is no such file", ["--kernel", "/nowhere/vmlinuz"])
        try expectLine(.image, "there is no /nowhere/demo.iso", ["--share-dir", "/nowhere", "demo"])
    }

    @Test func seeds() throws {
        try expectLine(.seed, "neither in /u nor in", ["-u", "nowhere", "demo"])
        try expectLine(.seed, "line 3, column 1", ["-u", scratch.file("bad.yaml", "#cloud-config\na: [1\n"), "demo"])
        try expectLine(
            .seed, "it is a private key",
            ["--ssh-key", scratch.file("key", "-----BEGIN OPENSSH PRIVATE KEY-----\n"), "demo"])
        try expectLine(.seed, "no YAML mapping", ["--meta-data", scratch.file("list", "- a\n"), "demo"])
    }

    @Test func hosts() throws {
        try expectLine(.host, "the host has", ["-m", "900G", "demo"])
        try expectLine(.host, "are needed", ["--hugepages", "1G", "-m", "4G", "demo"])
        try expectLine(.host, "apt-get install qemu-system-x86", ["--qemu", "qemu-nowhere", "demo"])
        try expectLine(.host, "Not a directory", ["--state", scratch.file("file", "x"), "demo"])
    }

    /// Also where somebody listens on one address only.
    @Test func portsThatAreTaken() throws {
        let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(server) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let port = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                var size = size
                bind(server, pointer, size)
                listen(server, 1)
                getsockname(server, pointer, &size)
            }
            return Int(UInt16(bigEndian: pointer.pointee.sin_port))
        }
        try expectLine(.network, "Address already in use", ["--publish", "\(port):80", "demo"])
        try expectLine(
            .network, "forwards IPv4 only", ["--user-net", "slirp", "--publish", "[::1]:\(port + 1):80", "demo"])
    }

    @Test func qemusOwnWords() throws {
        try expectLine(
            .qemu, "'nonsense' is not a valid device model name", ["--qemu-arg=-device", "--qemu-arg=nonsense", "demo"])
        try expectLine(.qemu, "exit code 1", ["--qemu", "/bin/false", "demo"])
    }

    /// QEMU's user may not read what only root may.
    @Test(.enabled(if: Parts.isRoot, "only root gives rights away"))
    func rightsThatQEMULacks() throws {
        let secret = scratch.file("secret.img", "x")
        chmod(secret, 0o600)
        let drive = "if=none,file=\(secret),format=raw"
        try expectLine(.qemu, "--qemu-user root", ["--qemu-arg=-drive", "--qemu-arg=\(drive)", "demo"])
    }

    @Test(.enabled(if: Parts.isRoot && Parts.has("mount"), "only root can mount"))
    func aFullDisk() throws {
        let full = scratch.folder("full")
        #expect(try run("mount", ["-t", "tmpfs", "-o", "size=1M,mode=755", "none", full]).code == 0)
        defer { _ = try? run("umount", ["--lazy", full]) }
        try expectLine(
            .noSpace, "has 1M free, and it takes",
            ["--scratch", "\(full)/disks", "--copy", "--format", "raw", Parts.demo])
        #expect(Files.names(full) == [])
        // A program finds out only while it writes.
        _ = FileManager.default.createFile(atPath: "\(full)/filling", contents: Data(count: 1 << 20))
        try expectLine(.noSpace, "No space left", ["--scratch", "\(full)/disks", "demo"])
        #expect(Files.names(full) == ["filling"])
    }

    @Test(.enabled(if: Parts.isRoot && Parts.has("setpriv"), "only root can become another user"))
    func aFolderThatMayNotBeWritten() throws {
        let program = "\(scratch.path)/snabbvm"
        try FileManager.default.copyItem(atPath: Parts.snabbvm, toPath: program)
        let outcome = try run(
            "setpriv",
            [
                "--reuid", "12345", "--regid", "12345", "--clear-groups", program, "--run-dir", "/run/snabbvm-denied",
                "--hugepages", "off", "demo",
            ])
        #expect(outcome.code == FailureKind.host.rawValue)
        #expect(
            outcome.errors.contains("/run/snabbvm-denied/vm.ledger: Permission denied; choose places that"),
            "\(outcome.errors)")
    }
}
