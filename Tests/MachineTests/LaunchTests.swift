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

/// Real machines: the demo guest under software emulation, launched by the real program.
@Suite(.enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"), .serialized)
struct LaunchTests {
    private let scratch = Scratch()

    private func convert(to format: String) throws -> String {
        let path = "\(scratch.path)/image.\(format)"
        #expect(try run("qemu-img", ["convert", "-f", "raw", "-O", format, Parts.demo, path]).code == 0)
        return path
    }

    private static let userData = "#cloud-config\n# Grüße: 'quotes' \"and\" \\ backslashes, $dollars\nwrite_files: []\n"

    /// Boots, sees that the guest has exactly the user-data, and ends it by its power button.
    private func expectBoots(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) throws {
        let userData = scratch.file("user-data", LaunchTests.userData)
        let machine = try TestMachine(arguments + ["-u", userData], in: scratch)
        #expect(machine.isUp(), "\(machine.errors)\n\(machine.output.suffix(2000))", sourceLocation: sourceLocation)
        #expect(machine.given("user-data") == LaunchTests.userData, sourceLocation: sourceLocation)
        machine.signal(SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)", sourceLocation: sourceLocation)
        #expect(machine.output.contains("powering off"), sourceLocation: sourceLocation)
        expectNothingLeft(scratch, sourceLocation: sourceLocation)
    }

    @Test func bootsQcow2() throws { try expectBoots(try convert(to: "qcow2")) }

    @Test func bootsRawByUEFI() throws {
        try expectBoots("--format", "raw", "--firmware", "uefi", try convert(to: "raw"))
    }

    @Test func bootsISOAsCD() throws { try expectBoots("demo") }

    @Test func bootsISOByUEFIOnTheOldChipset() throws {
        try expectBoots("--firmware", "uefi", "--machine", "pc", "demo")
    }

    @Test func bootsOnSCSIWithTheOtherLabel() throws {
        try expectBoots("--disk-bus", "scsi", "--seed-label", "config-2", try convert(to: "qcow2"))
    }

    /// The quickest way to a running guest.
    private func quick(_ arguments: [String] = [], script: String? = nil) throws -> TestMachine {
        var words = TestMachine.kernel + arguments
        if let script { words += ["-u", scratch.file("script", "#!/bin/sh\n\(script)\n")] }
        return try TestMachine(words, in: scratch)
    }

    @Test func bootsAKernelWithoutAnyDiskOrNetwork() throws {
        let machine = try quick(["--net", "none"])
        #expect(machine.isUp(), "\(machine.errors)")
        #expect(machine.output.contains("user-data  none"))
        #expect(machine.output.contains("network    none"))
        #expect(try machine.status()["nics"]?.array == [])
        // The guest ends it itself.
        machine.signal(0)
        #expect(try machine.ask("stop").code == 0)
        #expect(machine.code() == 0)
        expectNothingLeft(scratch)
    }

    @Test func aGuestThatPowersOffEndsItWell() throws {
        let machine = try quick(script: "echo bye; poweroff")
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(machine.errors.contains("powered off after"))
        expectNothingLeft(scratch)
    }

    // MARK: What is written

    private func digest(_ path: String) throws -> String { try run("sha256sum", [path]).output }

    @Test(arguments: [[], ["--copy"]])
    func neverWritesTheOriginal(_ options: [String]) throws {
        let image = try convert(to: "qcow2")
        chmod(image, 0o600)
        let before = try digest(image)
        let write = "dd if=/dev/urandom of=/dev/vda bs=1M count=8 conv=fsync && echo wrote it; poweroff"
        let script = scratch.file("script", "#!/bin/sh\n\(write)\n")
        let machine = try TestMachine(TestMachine.kernel + options + ["-u", script, image], in: scratch)
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(machine.output.contains("wrote it"))
        #expect(try digest(image) == before)
        expectNothingLeft(scratch)
    }

    @Test func stateKeepsTheDiskAndItsIdentity() throws {
        let image = try convert(to: "qcow2")
        let state = "\(scratch.path)/state"
        let options = ["--state", state, "--disk-size", "64M", image]
        let first = try TestMachine(
            TestMachine.kernel + ["-u", scratch.file("write", "#!/bin/sh\necho kept > /dev/vda; sync; poweroff\n")]
                + options,
            in: scratch)
        #expect(first.code() == 0, "\(first.errors)")
        expectNothingLeft(scratch)
        let script = scratch.file(
            "read", "#!/bin/sh\necho disk: $(head -c 4 /dev/vda) $(cat /sys/block/vda/size)\npoweroff\n")
        let second = try TestMachine(
            TestMachine.kernel + ["-u", script, "--state", state, "--disk-size", "96M", image], in: scratch)
        #expect(second.code() == 0, "\(second.errors)")
        #expect(second.output.contains("disk: kept \(96 << 11)"), "\(second.output.suffix(500))")
        #expect(first.given("meta-data") == second.given("meta-data"))
        #expect(Files.names(state).sorted() == ["disk.img", "machine.json"])
        // The disk knows its image, and what that was taken for.
        let unnamed = try TestMachine(TestMachine.kernel + ["-u", script, "--state", state], in: scratch)
        #expect(unnamed.code() == 0, "\(unnamed.errors)")
        #expect(unnamed.output.contains("disk: kept"))
        // The same folder for two machines at once would be two guests on one disk.
        let third = try TestMachine(TestMachine.kernel + ["--state", state, image], in: scratch, name: "third")
        #expect(eventually { FileManager.default.fileExists(atPath: "\(scratch.path)/run/third/control") })
        let fourth = try TestMachine(["--state", state, image], in: scratch, name: "fourth")
        #expect(fourth.code() == FailureKind.busy.rawValue)
        #expect(try third.ask("stop", "--now").code == 0)
    }

    // MARK: Its end

    @Test func sigtermWhileTheGuestBootsStillEndsIt() throws {
        let machine = try quick()
        #expect(machine.isStarted(), "\(machine.errors)")
        machine.signal(SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    /// A guest that does not listen to the button has its time, and no more.
    @Test func cutsOffAGuestThatIgnoresTheButton() throws {
        let machine = try quick(
            ["--stop-timeout", "4"], script: "killall head; rmmod button; echo now de''af; sleep 1000")
        #expect(machine.shows("now deaf"), "\(machine.output.suffix(500))")
        machine.signal(SIGTERM)
        let code = machine.code()
        #expect(code == FailureKind.guestCutOff.rawValue, "\(machine.errors)")
        #expect(machine.errors.contains("cut off"))
        expectNothingLeft(scratch)
    }

    /// The shell and the kernel both say it when a terminal is closed: the guest has its time all the same.
    @Test func aClosedTerminalIsOneRequest() throws {
        let machine = try quick()
        #expect(machine.isUp())
        machine.signal(SIGHUP)
        machine.signal(SIGHUP)
        #expect(eventually { machine.errors.contains("stopping") })
        machine.signal(SIGHUP)
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(machine.output.contains("powering off"), "\(machine.output.suffix(300))")
        expectNothingLeft(scratch)
    }

    @Test func aSecondSignalEndsItAtOnce() throws {
        let machine = try quick(
            ["--stop-timeout", "10000"], script: "killall head; rmmod button; echo now de''af; sleep 1000")
        #expect(machine.shows("now deaf"))
        // Whoever waits for the end may give up waiting, which changes nothing.
        let stop = Process()
        stop.executableURL = URL(fileURLWithPath: Parts.snabbvm)
        stop.arguments = ["stop", "--name", "test", "--run-dir", "\(scratch.path)/run"]
        try stop.run()
        #expect(eventually { machine.errors.contains("asked to stop") })
        kill(stop.processIdentifier, SIGINT)
        stop.waitUntilExit()
        #expect(stop.terminationReason == .uncaughtSignal)
        #expect(machine.isRunning)
        machine.signal(SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    @Test func qemuKilledIsAFailureThatSaysSo() throws {
        let machine = try quick()
        #expect(machine.isStarted())
        let pid = try #require(try machine.status()["pid"]?.integer)
        kill(pid_t(pid), SIGKILL)
        #expect(machine.code() == FailureKind.qemu.rawValue)
        #expect(machine.errors.contains("signal 9"), "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    /// The launcher killed at any moment: nothing of it runs on, and the next start finds a clean host.
    @Test func killedLauncherLeavesNothingThatTheNextStartDoesNotCleanUp() throws {
        let image = try convert(to: "qcow2")
        for moment in ["starting", "up"] {
            let machine = try TestMachine(TestMachine.kernel + [image], in: scratch)
            if moment == "up" {
                #expect(machine.isUp(), "\(machine.errors)")
            } else {
                #expect(eventually { FileManager.default.fileExists(atPath: "\(scratch.path)/run/test/tmux.conf") })
            }
            machine.signal(SIGKILL)
            _ = machine.code()
            #expect(eventually { machine.processes.isEmpty }, "\(machine.processes)")
            #expect(Files.names("\(scratch.path)/run").contains("test.ledger"))
            #expect(try machine.ask("status").code == FailureKind.noMachine.rawValue)
            // Probes know no other code than 1.
            let health = try machine.ask("status", "--health")
            #expect(health.code == 1 && health.output.contains("its launcher was killed"), "\(health)")
        }
        let next = try TestMachine(TestMachine.kernel + [image], in: scratch)
        #expect(next.isStarted(), "\(next.errors)")
        #expect(next.errors.contains("giving back what a killed launcher left"))
        #expect(try next.ask("stop", "--now").code == 0)
        expectNothingLeft(scratch)
    }

    @Test func releaseGivesBackWhatAKilledLauncherLeft() throws {
        let machine = try quick()
        #expect(machine.isStarted())
        #expect(try machine.ask("release").code == FailureKind.busy.rawValue)
        machine.signal(SIGKILL)
        _ = machine.code()
        #expect(try machine.ask("release").code == 0)
        expectNothingLeft(scratch)
        #expect(try machine.ask("release", "--all").code == 0)
    }

    /// Killed at moments that nobody chose: whatever was half done is cleaned up.
    @Test func killedAtRandomMomentsIsAlwaysCleanedUp() throws {
        var random = RandomBytes(seed: 11)
        for _ in 0..<20 {
            let machine = try TestMachine(["-u", scratch.file("u", "#cloud-config\n{}\n"), "demo"], in: scratch)
            usleep(UInt32(random.next(60_000)))
            machine.signal(SIGKILL)
            _ = machine.code()
            #expect(eventually { machine.processes.isEmpty }, "\(machine.processes)")
            #expect(try machine.ask("release", "--quiet").code == 0)
            expectNothingLeft(scratch)
        }
    }

    /// A container's first process has no default for any signal, and inherits everybody's orphans.
    @Test(.enabled(if: Parts.isRoot && Parts.has("unshare"), "only root makes process namespaces"))
    func worksAsTheFirstProcess() throws {
        let wrapper = ["unshare", "--pid", "--fork", "--mount-proc"]
        let script = scratch.file("script", "#!/bin/sh\ntrue\n")
        let machine = try TestMachine(TestMachine.kernel + ["-u", script], in: scratch, wrapper: wrapper)
        #expect(machine.isUp(), "\(machine.errors)")
        let children = FileTree().line("/proc/\(machine.pid)/task/\(machine.pid)/children") ?? ""
        let launcher = try #require(pid_t(children))
        // An orphan: its parent ends at once, inside the namespace.
        let orphan = ["-t", "\(launcher)", "-p", "-m", "sh", "-c", "sleep 0.2 & exit 0"]
        #expect(try run("nsenter", orphan).code == 0)
        #expect(
            eventually {
                !(FileTree().text("/proc/\(launcher)/task/\(launcher)/children") ?? "").split(separator: " ").contains {
                    child in
                    FileTree().text("/proc/\(child)/stat")?.contains(") Z ") == true
                }
            })
        kill(launcher, SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(machine.output.contains("powering off"))
        expectNothingLeft(scratch)
    }

    /// Whatever is being made goes too, with the program that makes it.
    @Test func stoppedWhileItCopiesLeavesNothing() throws {
        let image = "\(scratch.path)/large.img"
        #expect(try run("dd", ["if=/dev/urandom", "of=\(image)", "bs=1M", "count=1500", "status=none"]).code == 0)
        let machine = try TestMachine(["--copy", "--format", "raw", image], in: scratch)
        #expect(eventually { FileManager.default.fileExists(atPath: "\(self.scratch.path)/disks/test/disk.img.new") })
        machine.signal(SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(machine.errors.contains("stopped before machine test was started"), "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    // MARK: Looking at it

    @Test func statusTellsHowItIs() throws {
        let machine = try quick(["--publish", "127.0.0.1:18080:80"])
        #expect(machine.isUp(), "\(machine.errors)")
        let status = try machine.status()
        #expect(status["state"] == "running" && status["accelerator"] == "tcg" && status["name"] == "test")
        // The demo guest has the agent, which knows best.
        let nic = { try machine.status()["nics"]?.array?.first }
        #expect(eventually { (try? nic()?["addressesFrom"]?.string) == "guest agent" })
        #expect(try nic()?["addresses"]?.array?.contains("10.0.2.15") == true)
        let health = try machine.ask("status", "--health")
        #expect(health.code == 0 && health.output == "machine test is running\n", "\(health)")
        let text = try machine.ask("status").output
        #expect(text.contains("10.0.2.15") && text.contains("127.0.0.1:18080:80"))
        let page = try run("curl", ["-s", "--max-time", "60", "http://127.0.0.1:18080/"])
        #expect(page.output.contains("<title>demo"), "\(page)")
        #expect(try run(Parts.snabbvm, ["status", "--name", "none", "--run-dir", "\(scratch.path)/run"]).code == 9)
        // The only machine there is need not be named.
        #expect(try run(Parts.snabbvm, ["status", "--run-dir", "\(scratch.path)/run"]).code == 0)
        #expect(try machine.ask("stop").code == 0)
    }

    @Test func twoMachinesSideBySideAndOneNameOnce() throws {
        let first = try quick()
        let second = try TestMachine(TestMachine.kernel, in: scratch, name: "other")
        #expect(first.isUp() && second.isUp())
        let third = try TestMachine(["demo"], in: scratch)
        #expect(third.code() == FailureKind.busy.rawValue)
        #expect(third.errors.contains("a machine of this name is running"))
        #expect(first.given("meta-data") == second.given("meta-data"), "neither was given a seed")
        #expect(try first.ask("stop").code == 0)
        #expect(second.isRunning)
        #expect(try second.ask("stop", "--now").code == 0)
        expectNothingLeft(scratch)
    }

    /// For each of these it was once root, with all that root may do.
    @Test(
        .enabled(if: Parts.isRoot && Parts.has("unshare", "ip", "sysctl"), "only root can give rights away"),
        arguments: ["nothing", "a private kernel", "a low port", "--qemu-user root"])
    func qemuHasNoRights(_ need: String) throws {
        var words = TestMachine.kernel + ["--net", "user", "--user-net", "slirp"]
        let (kernel, initrd) = (scratch.file("private/k", ""), scratch.file("private/i", ""))
        if need == "a private kernel" {
            for (place, path) in [(1, kernel), (3, initrd)] {
                try Data(contentsOf: URL(fileURLWithPath: words[place])).write(to: URL(fileURLWithPath: path))
                words[place] = path
                chmod(path, 0o600)
            }
            chmod("\(scratch.path)/private", 0o700)
        }
        if need == "a low port" { words += ["--publish", "127.0.0.1:80:80"] }
        if need == "--qemu-user root" { words += ["--qemu-user", "root"] }
        let setUp = "ip link set lo up; sysctl -qw net.ipv4.ip_unprivileged_port_start=1024; exec \"$@\""
        let machine = try TestMachine(words, in: scratch, wrapper: ["unshare", "--net", "sh", "-ec", setUp, "sh"])
        try #require(machine.isUp(), "\(machine.errors)\n\(machine.output.suffix(500))")
        let pid = try #require(try machine.status()["pid"]?.integer)
        let status = try #require(FileTree().text("/proc/\(pid)/status"))
        let uid = try #require(UserRange.uid(in: status))
        let isOwn = UserRange(uid, uid).isWithin(.usual)
        #expect(need == "--qemu-user root" ? uid == 0 : isOwn, "\(status)")
        #expect(status.contains("Gid:\t\(uid)\t\(uid)\t\(uid)\t\(uid)\n"), "\(status)")
        let rights = need == "a low port" ? "0000000000000400" : "0000000000000000"
        for kind in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            #expect(status.contains("\(kind):\t\(rights)\n"), "\(status)")
        }
        #expect(status.contains("Seccomp:\t2"))
        #expect(status.contains("NoNewPrivs:\t1"))
        #expect(status.contains("Groups:\t \n") || uid == 0 && !status.contains("Groups:\t0"), "\(status)")
        // Nothing by which another process of its user could speak to it, or in its name.
        let folder = "\(scratch.path)/run/test"
        let owned = try Files.names(folder).filter { try uid != 0 && Files.status("\(folder)/\($0)").st_uid == uid }
        #expect(owned == [])
        if need == "a low port" {
            let page = try run("nsenter", ["-t", "\(pid)", "-n", "curl", "-s", "--max-time", "60", "127.0.0.1"])
            #expect(page.output.contains("<title>demo"), "\(page)")
        }
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(machine.code() == 0)
        expectNothingLeft(scratch)
    }

    /// A process of one machine's user, such as its QEMU once it was taken over, gets nowhere in another machine.
    @Test(
        .enabled(
            if: Parts.isRoot && Parts.has("setpriv", "/usr/bin/python3"), "there is no root, or no setpriv or python3"))
    func aMachineDoesNotReachAnother() throws {
        let first = try quick()
        let second = try TestMachine(TestMachine.kernel, in: scratch, name: "other")
        #expect(first.isUp() && second.isUp())
        let pids = try [first, second].map { try #require(try $0.status()["pid"]?.integer) }
        let users = try pids.map {
            try #require(UserRange.uid(in: try String(contentsOfFile: "/proc/\($0)/status", encoding: .utf8)))
        }
        #expect(users[0] != users[1])
        let ways = """
            import ctypes, os, pathlib, resource, signal, socket, sys
            pid, folder = int(sys.argv[1]), sys.argv[2]
            libc = ctypes.CDLL(None, use_errno=True)
            def call(*words):
                if libc.syscall(*words) < 0: raise OSError(ctypes.get_errno(), "refused")
            def connect(path):
                socket.socket(socket.AF_UNIX).connect(path)
            buffer = ctypes.create_string_buffer(64)
            class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
            vector = Vector(ctypes.addressof(buffer), 1)
            ways = {
                "kill": lambda: os.kill(pid, 0),
                "stop": lambda: os.kill(pid, signal.SIGSTOP),
                "trace": lambda: call(101, 16, pid, 0, 0),
                "read memory": lambda: call(310, pid, ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0),
                "map memory": lambda: open(f"/proc/{pid}/mem", "rb"),
                "memory's map": lambda: open(f"/proc/{pid}/maps").read(),
                "open files": lambda: os.listdir(f"/proc/{pid}/fd"),
                "an open file": lambda: open(f"/proc/{pid}/fd/3", "rb"),
                "map files": lambda: os.listdir(f"/proc/{pid}/map_files"),
                "environment": lambda: open(f"/proc/{pid}/environ").read(),
                "its root": lambda: os.listdir(f"/proc/{pid}/root"),
                "take a descriptor": lambda: call(438, os.pidfd_open(pid), 4, 0),
                "its limits": lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0)),
                "its priority": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
                "its processors": lambda: os.sched_setaffinity(pid, {0}),
                "control": lambda: connect(f"{folder}/control"),
                "tmux": lambda: connect(f"{folder}/tmux"),
                "list its folder": lambda: os.listdir(folder),
                "write there": lambda: open(f"{folder}/x", "w"),
                "remove its control": lambda: os.unlink(f"{folder}/control"),
                "rename its folder": lambda: os.rename(folder, folder + "x"),
                "its log": lambda: open(f"{folder}/log").read(),
                "its seed": lambda: open(f"{folder}/seed.iso", "rb"),
                "its ledger": lambda: open(f"{folder}.ledger").read(),
            }
            for name, way in ways.items():
                try:
                    way()
                    print("reached:", name)
                except OSError: pass
            print(len(ways), "ways")
            """
        let user = ["--reuid", "\(users[0])", "--regid", "\(users[0])", "--clear-groups", "--no-new-privs"]
        let target = ["\(pids[1])", "\(scratch.path)/run/other"]
        let outcome = try run("setpriv", user + ["/usr/bin/python3", "-c", ways] + target)
        #expect(outcome.output == "24 ways\n", "\(outcome)")
        // And they are ways: whoever is its user has some.
        let own = ["--reuid", "\(users[1])", "--regid", "\(users[1])", "--clear-groups", "--no-new-privs"]
        let reached = try run("setpriv", own + ["/usr/bin/python3", "-c", ways] + target).output
        #expect(reached.contains("reached: kill") && reached.contains("reached: its limits"), "\(reached)")
        kill(pid_t(pids[1]), SIGCONT)
        #expect(try first.status()["state"] == "running")
        for machine in [first, second] { #expect(try machine.ask("stop", "--now").code == 0) }
        expectNothingLeft(scratch)
    }

    /// Root of a container that lacks rights can't make QEMU another user, and leaves it none of those that are there.
    @Test(
        .enabled(if: Parts.isRoot && Parts.has("setpriv"), "only root has rights to lose"),
        arguments: ["-all", "-all,+net_admin,+net_raw,+net_bind_service", "-all,+setuid,+setgid", "-kill"])
    func rootWithoutRightsNeedsNone(_ left: String) throws {
        let machine = try TestMachine(
            TestMachine.kernel + ["--net", "user"], in: scratch,
            wrapper: ["setpriv", "--bounding-set", left, "--inh-caps", "-all"])
        #expect(machine.isStarted(), "\(machine.errors)")
        let pid = try #require(try machine.status()["pid"]?.integer)
        let status = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
        for kind in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            #expect(status.contains("\(kind):\t0000000000000000"), "\(status)")
        }
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(machine.code() == 0)
        expectNothingLeft(scratch)
    }

    /// Ordinary users can run machines too.
    @Test(.enabled(if: Parts.isRoot && Parts.has("setpriv"), "only root can become another user"))
    func anOrdinaryUserNeedsNoRight() throws {
        let home = scratch.folder("home")
        chown(home, 12345, 12345)
        // Where the package is may be closed to others.
        let program = "\(scratch.path)/snabbvm"
        for (from, to) in [
            (Parts.snabbvm, program), (Parts.shareFolder + "/demo-kernel", "\(scratch.path)/k"),
            (Parts.shareFolder + "/demo-initrd", "\(scratch.path)/i"),
        ] {
            try FileManager.default.copyItem(atPath: from, toPath: to)
        }
        let outcome = try run(
            "setpriv",
            [
                "--reuid", "12345", "--regid", "12345", "--clear-groups", program, "--accel", "tcg", "-m", "256",
                "--vnc", "off", "--hugepages", "off",
                "--run-dir", "\(home)/run", "--scratch", "\(home)/disks", "--kernel", "\(scratch.path)/k",
                "--initrd", "\(scratch.path)/i", "-u", scratch.file("u", "#!/bin/sh\nid -u\npoweroff\n"),
            ], environment: ["HOME": home])
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(outcome.output.contains("snabbvm demo: ready"))
        #expect(Files.names(home) == [])
    }

    // MARK: Hugepages

    @Test(.enabled(if: Parts.isRoot, "only root can reserve hugepages"))
    func takesHugepagesAndGivesThemBack() throws {
        let hugepages = try Hugepages(160)
        defer { withExtendedLifetime(hugepages) {} }
        let machine = try quick(["--hugepages", "auto"])
        #expect(machine.isStarted(), "\(machine.errors)")
        #expect(try machine.status()["memory"]?["pageSize"]?.integer == 2 << 20)
        #expect(Hugepages.free == 160 - 128)
        let another = try TestMachine(TestMachine.kernel + ["--hugepages", "auto"], in: scratch, name: "another")
        #expect(another.code() == FailureKind.host.rawValue)
        #expect(another.errors.contains("are free, 128 are needed"), "\(another.errors)")
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(eventually { Hugepages.free == 160 })
        expectNothingLeft(scratch)
    }

    // MARK: The plan as a script

    /// What --dry-run prints boots the machine when it is pasted, and itself touches nothing.
    @Test(.enabled(if: Parts.has("setpriv"), "setpriv is missing"))
    func dryRunPrintsCommandsThatWork() throws {
        let userData = scratch.file("user data", "#!/bin/sh\npoweroff\n")
        let words =
            TestMachine.options(scratch, name: "test") + [
                "--vnc", "off", "--accel", "tcg", "-m", "256", "--hugepages", "off", "-u", userData, "demo",
            ]
        let outcome = try run(Parts.snabbvm, ["--dry-run"] + words)
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(Files.names(scratch.path) == ["user data"])
        // QEMU draws on the terminal that it is pasted into; the windows beside it need the launcher.
        let commands = outcome.output.split(separator: "\n").filter { !$0.contains("start-server") }
        let script = scratch.file("script", "set -e\n" + commands.joined(separator: "\n") + "\n")
        let terminal = try run("script", ["-qec", "bash '\(script)'", "/dev/null"])
        #expect(terminal.code == 0, "\(terminal.output.suffix(2000))")
        #expect(terminal.output.contains("snabbvm demo: ready"), "\(terminal.output.suffix(2000))")
        #expect(Files.names(scratch.path).sorted() == ["script", "user data"])
    }
}

extension UserRange {
    /// Of a process, as its status has it.
    fileprivate static func uid(in status: String) -> UInt32? {
        status.split(separator: "\n").first { $0.hasPrefix("Uid:") }?.split(separator: "\t").dropFirst().first
            .flatMap { UInt32($0) }
    }
}
