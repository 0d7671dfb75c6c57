import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import System
@testable import TestSupport
@testable import Values

@Suite struct CommandTests {
    private func finish(_ command: Command, limit: Duration = .seconds(60)) throws -> String {
        let loop = try EventLoop()
        let job = try Job(command, in: loop, limit: limit, kind: .host)
        return String(decoding: try job.finish(.host, "run", command.name), as: UTF8.self)
    }

    @Test func passesArgumentsAsTheyAre() throws {
        let output = try finish(Command(program: "/usr/bin/printf", arguments: ["%s|", "a b", "", "$x", "'"]))
        #expect(output == "a b||$x|'|")
    }

    @Test func passesOpenFilesAndNoOthers() throws {
        let scratch = Scratch()
        var command = Command(program: "/bin/sh", arguments: ["-c", "cat <&4; ls /proc/self/fd"])
        command.files = [.init(path: "/dev/null"), .init(path: scratch.file("x", "content\n"))]
        // ls has one more open, the folder that it reads.
        #expect(try finish(command) == "content\n0\n1\n2\n3\n4\n5\n")
    }

    @Test func showsTheLastWordsOfAFailure() throws {
        let command = Command(program: "/bin/sh", arguments: ["-c", "echo nothing works >&2; exit 7"])
        let failure = expectThrown(Failure.self) { try finish(command) }
        #expect(failure?.cause == "nothing works")
    }

    @Test func endsWhatTakesTooLong() throws {
        let failure = expectThrown(Failure.self) {
            try finish(Command(program: "/bin/sleep", arguments: ["600"]), limit: .milliseconds(50))
        }
        #expect(failure?.cause.contains("in time") == true)
    }

    @Test func limitsMemory() throws {
        var command = Command(program: "/bin/sh", arguments: ["-c", "ulimit -v"])
        command.addressSpace = 1 << 30
        #expect(try finish(command) == "\(1 << 20)\n")
    }

    @Test func saysWhatCouldNotBeStarted() throws {
        let failure = expectThrown(Failure.self) { try finish(Command(program: "/nonexistent/x", arguments: [])) }
        #expect(failure?.line == "cannot start /nonexistent/x: execute: No such file or directory")
    }

    @Test(.enabled(if: Parts.isRoot, "only root can become another user"))
    func changesTheUser() throws {
        var command = Command(program: "/bin/sh", arguments: ["-c", "id -u; id -g; id -G"])
        command.user = User(uid: 12345, gid: 23456, groups: [34567])
        #expect(try finish(command) == "12345\n23456\n23456 34567\n")
    }

    @Test(.enabled(if: Parts.has("setpriv"), "setpriv is missing"))
    func printsACommandThatDoesTheSame() throws {
        let scratch = Scratch()
        var command = Command(
            program: "/bin/sh", arguments: ["-c", "cat <&3; echo \"$X\""], environment: ["X": "it's $5"])
        command.files = [.init(path: scratch.file("a file", "content\n"))]
        #expect(try run("/bin/sh", ["-c", command.shellText]).output == "content\nit's $5\n")
        #expect(try finish(command) == "content\nit's $5\n")
    }

    /// One right, and a device that is its own, neither of which anybody else has from it; pasted as well.
    @Test(
        .enabled(
            if: Parts.isRoot && Parts.has("setpriv", "unshare", "prlimit"), "only root has rights and devices to give"))
    func givesARightAndADevice() throws {
        let script = "grep Cap /proc/self/status; stat -c %u:%a /dev/full; ls -d /sys/class; ulimit -l"
        var command = Command(program: "/bin/sh", arguments: ["-c", script], user: User(uid: 12345, gid: 23456))
        (command.mayBindLowPorts, command.devices, command.lockedMemory) = (true, ["/dev/full"], 1 << 20)
        let sets = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map { "Cap\($0):\t0000000000000400\n" }.joined()
        let expected = sets + "12345:600\n/sys/class\n1024\n"
        #expect(try finish(command) == expected)
        #expect(try run("/bin/sh", ["-c", command.shellText]).output == expected)
        #expect(try Files.status("/dev/full").st_uid != 12345)
        (command.mayBindLowPorts, command.user) = (false, .root)
        #expect(try finish(command).hasPrefix(sets.replacingOccurrences(of: "400", with: "000")))
    }

    /// What it opens again by its number, though the file is nobody else's.
    @Test(.enabled(if: Parts.isRoot, "only root has files that are closed to others"))
    func givesACopyThatNobodyCanChange() throws {
        let scratch = Scratch()
        let path = scratch.file("secret", "content\n")
        chmod(path, 0o600)
        let script = "cat /proc/self/fd/3; echo more >>/proc/self/fd/3 || echo refused"
        var command = Command(program: "/bin/sh", arguments: ["-c", script], user: User(uid: 12345, gid: 23456))
        command.files = [.init(path: path, isCopied: true)]
        #expect(try finish(command) == "content\nrefused\n")
        command.user = .root
        #expect(try finish(command) == "content\nrefused\n")
        #expect(try Files.read(path, limit: 100) == Array("content\n".utf8))
    }

    /// The launcher's settings may name secrets.
    @Test func keepsItsSettingsToItself() throws {
        setenv("SNABBVM_SECRET_FILE", "x", 1)
        defer { unsetenv("SNABBVM_SECRET_FILE") }
        #expect(try !finish(Command(program: "/usr/bin/env", arguments: [])).contains("SNABBVM_"))
    }

    /// A pid alone could be anybody's by now.
    @Test func knowsAProcessByItsStart() throws {
        let identity = try #require(ProcessIdentity(pid: getpid()))
        #expect(identity.isAlive)
        var other = identity
        other.startTime += 1
        #expect(!other.isAlive)
    }
}
