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

/// What is kept with --state is what its user can't make again: it boots on what it was made on, and on nothing else.
@Suite(
    "Kept disks",
    .enabled(if: WebServer.canRun && Parts.hasDemo, "python3, curl, QEMU, xorriso or the demo machine is missing"),
    .serialized)
struct KeptDiskTests {
    private let scratch = Scratch()
    private let server: WebServer
    private let cache: TestCache

    init() throws {
        server = try WebServer(scratch.folder("www"))
        cache = TestCache(scratch)
    }

    private var state: String { "\(scratch.path)/state" }
    private var disk: String { "\(state)/disk.img" }
    private var record: String { "\(state)/machine.json" }

    /// A start whose QEMU ends at once: all that comes before it has been done.
    private func start(_ words: [String], folder: TestCache? = nil) throws -> (code: Int32, errors: String) {
        let options = ["--qemu", "/bin/false", "--cache", (folder ?? cache).path, "--attempts", "1"]
        let machine = try TestMachine(options + words, in: scratch)
        let code = machine.code()
        return (code, machine.errors)
    }

    private func expectStarts(_ words: String..., sourceLocation: SourceLocation = #_sourceLocation) throws {
        let outcome = try start(["--state", state] + words)
        #expect(outcome.code == FailureKind.qemu.rawValue, "\(outcome)", sourceLocation: sourceLocation)
    }

    private func expectRefused(
        _ kind: FailureKind, _ text: String, _ words: [String], sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let outcome = try start(words)
        let lines = outcome.errors.split(separator: "\n").filter { $0.contains("cannot") }
        #expect(outcome.code == kind.rawValue, "\(outcome)", sourceLocation: sourceLocation)
        #expect(lines.count == 1 && lines[0].contains(text), "\(outcome.errors)", sourceLocation: sourceLocation)
    }

    private func recorded(_ key: String) throws -> JSON? {
        try JSON(parsing: try Files.read(record, limit: 1 << 16))["image"]?[key]
    }

    private func change(_ path: String, _ key: String, to value: JSON) throws {
        var fields = try #require(try JSON(parsing: try Files.read(path, limit: 1 << 20)).object)
        fields[key] = value
        try Files.replace(path, Array(JSON.object(fields).text.utf8), mode: 0o600)
    }

    // MARK: What it stands on

    /// Fetched once more, it is what the disk stands on as before.
    @Test func whoStandsOnAnImageIsRememberedWhenItIsGone() throws {
        let image = try server.serve("disk.img", mebibytes: 2)
        try expectStarts(image.url)
        let stem = { String(try #require(self.cache.disks.first).dropLast(5)) }
        #expect(try cache.images("rm", "--force", try stem()).code == 0)
        #expect(try cache.pull(image.url).code == 0)
        let refused = try cache.images("rm", try stem())
        #expect(refused.code == FailureKind.busy.rawValue && refused.errors.contains(state), "\(refused)")
        #expect(try cache.images("rm", "--all").code == FailureKind.busy.rawValue)
        // A record alone is what a start leaves that was killed before there was a disk.
        unlink(disk)
        #expect(try cache.images("rm", "--all").code == 0)
        #expect(cache.names == [])
    }

    /// Two disks of one archive have one digest of the archive.
    @Test(.enabled(if: Parts.has("tar"), "tar is missing")) func aDiskIsNotPutOnAnotherMember() throws {
        for name in ["a.img", "b.img"] { _ = try server.serve(name, mebibytes: 2) }
        #expect(try run("tar", ["-C", server.root, "-cf", "\(server.root)/two.tar", "a.img", "b.img"]).code == 0)
        let url = server.url("two.tar")
        try expectStarts("--member", "a.img", url)
        #expect(try recorded("member") == "a.img")
        let other = ["--state", state, "--member", "b.img", url]
        // With the first one there, and without.
        try expectRefused(.image, "b.img", other)
        #expect(try cache.images("rm", "--force", "--all").code == 0)
        try expectRefused(.image, "b.img", other)
        try expectStarts("--member", "a.img", url)
        try expectStarts(url)
        try expectStarts()
    }

    /// Between its announcement and its sync a crash can leave holes in it, of the right length and time.
    @Test func aBaseThatACrashMayHaveDamagedIsFetchedAnew() throws {
        let image = try server.serve("disk.img", mebibytes: 2)
        try expectStarts(image.url)
        let file = try #require(cache.names.first { $0.hasSuffix(".json") })
        try change("\(cache.path)/\(file)", "boot", to: "another")
        try expectRefused(.image, "before this host crashed", ["--state", state])
        try expectStarts(image.url)
        #expect(try server.sent(image.name) >= 2 * image.size)
        try expectStarts()
    }

    /// What was kept of an image tells it, wherever it lies: its path is the present one.
    @Test func theRightVersionInTheCacheIsTaken() throws {
        let old = try server.serve("disk.img", mebibytes: 2)
        try expectStarts(old.url)
        let first = try #require(try recorded("path")?.string)
        let moved = TestCache(scratch, "moved")
        try FileManager.default.moveItem(atPath: cache.path, toPath: moved.path)
        let new = try server.serve("disk.img", mebibytes: 3)
        _ = try moved.pull(new.url)
        let sent = try server.sent(new.name)
        for words in [[new.url], []] {
            let outcome = try start(["--state", state] + words, folder: moved)
            #expect(outcome.code == FailureKind.qemu.rawValue, "\(outcome)")
        }
        #expect(try server.sent(new.name) == sent, "nothing is fetched")
        let now = try #require(try recorded("path")?.string)
        #expect(now != first && now.hasPrefix(moved.path) && access(now, F_OK) == 0)
        // With the right one gone the server's is another, and the disk is not put on it.
        #expect(try moved.images("rm", "--force", "--all").code == 0)
        try expectRefused(.image, "another", ["--state", state, new.url])
    }

    /// A machine that booted lazily knows its image by what the server said of it.
    @Test func aLazyDiskOutlivesItsImage() throws {
        let image = try server.serve("disk.img", mebibytes: 6)
        try server.put(image.name, ["rate": 2_000_000])
        try expectStarts("--lazy", image.url)
        #expect(cache.disks == [], "it came before it was to")
        try server.put(image.name, [:])
        #expect(try cache.images("rm", "--force", "--all").code == 0)
        try expectStarts(image.url)
        #expect(try cache.images("rm", "--force", "--all").code == 0)
        try expectStarts("--lazy", image.url)
        // From the digest on, the server may say of the same file what it likes.
        try expectStarts(image.url)
        #expect(try recorded("digest")?.string == "sha256:\(image.digest)")
        #expect(try cache.images("rm", "--force", "--all").code == 0)
        utimes(image.path, nil)
        try expectStarts(image.url)
    }

    /// Whoever takes the machine's image away takes it from all that stands on it.
    @Test func theImageOfAMachineThatRunsIsNotRemoved() throws {
        let image = try server.serve("disk.img", mebibytes: 2)
        try expectStarts(image.url)
        let machine = try TestMachine(["--state", state, "--cache", cache.path], in: scratch)
        #expect(machine.isStarted(), "\(machine.errors)")
        #expect(try cache.images("rm", "--force", "--all").code == ExitCode.busy.rawValue)
        #expect(cache.disks.count == 1)
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(machine.code() == 0)
        #expect(try cache.images("rm", "--force", "--all").code == 0)
    }

    /// Its server may have another by now, and then the disk is lost.
    @Test func anImageThatKeptDisksStandOnIsNotRemovedUnasked() throws {
        let image = try server.serve("disk.img", mebibytes: 2)
        try expectStarts(image.url)
        try expectStarts()
        for name in ["disk.img", "--all"] {
            let outcome = try cache.images("rm", name)
            #expect(outcome.code == ExitCode.busy.rawValue && outcome.errors.contains(state), "\(outcome)")
            #expect(cache.disks.count == 1)
        }
        #expect(try disk("flatten").code == 0)
        #expect(try cache.images("rm", "disk.img").code == 0)
        #expect(cache.names == [])
    }

    /// Of what has just another date only the digest can tell, and that takes all of it.
    @Test func aFileThatWasTouchedIsTheSame() throws {
        let image = try server.serve("disk.img", mebibytes: 2)
        try expectStarts(image.url)
        #expect(try cache.images("rm", "--force", "--all").code == 0)
        utimes(image.path, [timeval(tv_sec: 1_000_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000_000, tv_usec: 0)])
        let outcome = try start(["--state", state, "--lazy", image.url])
        #expect(outcome.code == FailureKind.qemu.rawValue, "\(outcome)")
        #expect(outcome.errors.contains("only all of it can tell"), "\(outcome)")
    }

    // MARK: The disk's own command

    private func disk(_ verb: String, _ words: String...) throws -> Outcome {
        try run(Parts.snabbvm, ["disk", verb, "--state", state, "--cache", cache.path] + words)
    }

    /// Starts a disk, and writes to it what stands nowhere in its image.
    private func keptDisk(_ words: String..., secret: String? = nil) throws {
        let outcome = try start(["--state", state] + words)
        #expect(outcome.code == FailureKind.qemu.rawValue, "\(outcome)")
        var options = ["--image-opts", "driver=qcow2,file.driver=file,file.filename=\(disk)"]
        if let secret {
            options[1] += ",encrypt.key-secret=s"
            options += ["--object", "secret,id=s,file=\(secret)"]
        }
        let backing = secret == nil ? "" : ",backing.encrypt.key-secret=s"
        options[1] += backing
        let written = try run("qemu-io", options + ["-c", "write -P 0x5a 1048576 65536"])
        #expect(written.code == 0, "\(written)")
    }

    /// The bytes that the guest would read, as a digest.
    private func content(_ path: String, _ format: String) throws -> String {
        let raw = "\(scratch.path)/content"
        #expect(try run("qemu-img", ["convert", "-f", format, "-O", "raw", path, raw]).code == 0)
        return try digest(of: raw)
    }

    @Test func tellsWhatADiskStandsOn() throws {
        let image = try server.serve("disk.img", mebibytes: 2)
        try keptDisk(image.url)
        let told = try JSON(parsing: try disk("info", "--json").output)
        #expect(told["base"]?["source"]?.string == image.url && told["problem"] == .null, "\(told.text)")
        #expect(told["base"]?["digest"]?.string == "sha256:\(image.digest)" && told["inUse"] == false)
        let text = try disk("info").output
        for word in [image.url, image.digest, cache.path, "here, and the one"] {
            #expect(text.contains(word), "\(text)")
        }
        #expect(try disk("check").output.contains(image.digest))
        // A byte of the image, with its time as it was.
        let file = "\(cache.path)/\(cache.disks[0])"
        let damage =
            "touch -r '\(file)' time && printf x | dd of='\(file)' bs=1 seek=500000 conv=notrunc && touch -r time '\(file)'"
        #expect(try run("bash", ["-ec", damage], in: scratch.path).code == 0)
        let checked = try disk("check")
        #expect(checked.code == ExitCode.checksum.rawValue && checked.errors.contains(file), "\(checked)")
        #expect(try cache.images("rm", "--force", "--all").code == 0)
        #expect(try disk("info").output.contains("a start with \(image.url) as IMAGE fetches it"))
        #expect(try disk("check").code == ExitCode.image.rawValue)
    }

    @Test(arguments: ["disk.img", "encrypted.qcow2"]) func aFlattenedDiskNeedsNoImage(_ name: String) throws {
        let secret = scratch.file("secret", "correct horse")
        var words: [String] = []
        var path = "\(server.root)/\(name)"
        if name == "disk.img" {
            path = try server.serve(name, mebibytes: 4).path
        } else {
            path = try encrypted(name, secret: secret)
            words = ["--secret-file", secret]
        }
        let outcome = try start(["--state", state] + words + [path])
        #expect(outcome.code == FailureKind.qemu.rawValue, "\(outcome)")
        let before = try exported(words)
        let flattened = try run(Parts.snabbvm, ["disk", "flatten", "--state", state] + words)
        #expect(flattened.code == 0, "\(flattened)")
        unlink(path)
        #expect(try exported(words) == before)
        #expect(try disk("info").output.contains("stands by itself"))
        let information = try JSON(parsing: try run("qemu-img", ["info", "--output=json", disk]).output)
        #expect(information["backing-filename"] == nil && (information["encrypted"] == true) == (words != []))
        let again = try start(["--state", state] + words)
        #expect(again.code == FailureKind.qemu.rawValue, "\(again)")
        #expect(Files.names(state).sorted() == ["disk.img", "machine.json"])
    }

    /// What the guest would read, as `disk export` writes it.
    private func exported(_ words: [String]) throws -> String {
        let file = "\(scratch.path)/exported-\(UInt32.random(in: 0...UInt32.max)).raw"
        let outcome = try run(
            Parts.snabbvm, ["disk", "export", "--state", state, "--cache", cache.path] + words + [file])
        #expect(outcome.code == 0 && outcome.output == "\(file)\n", "\(outcome)")
        defer { unlink(file) }
        return try digest(of: file)
    }

    @Test(arguments: ["raw", "qcow2", "vmdk", "vhdx", "vpc", "vdi"])
    func exportsAnyFormat(_ format: String) throws {
        let image = try server.serve("disk.img", mebibytes: 4)
        try keptDisk("--disk-size", "256M", image.url)
        let expected = try content(disk, "qcow2")
        let file = "\(scratch.path)/out"
        #expect(try disk("export", "--format", format, file).code == 0)
        #expect(try content(file, format) == expected)
        #expect(Int(try Files.status(file).st_blocks) * 512 < 64 << 20, "holes stay holes")
        // Not over what is there.
        #expect(try disk("export", "--format", format, file).code == ExitCode.usage.rawValue)
    }

    /// Wherever it is broken off, the disk is as it was, or flattened, and nothing is left.
    @Test func flatteningCanBeKilledAtAnyMoment() throws {
        let image = try server.serve("disk.img", mebibytes: 48)
        try keptDisk(image.path)
        let expected = try content(disk, "qcow2")
        for milliseconds in stride(from: 0, through: 200, by: 20) {
            let flatten = try Background(Parts.snabbvm, ["disk", "flatten", "--state", state])
            usleep(UInt32(milliseconds) * 1000)
            flatten.signal(milliseconds % 40 == 0 ? SIGKILL : SIGTERM)
            let code = flatten.code()
            #expect([0, 128 + SIGKILL, 128 + SIGTERM].contains(code), "\(code): \(flatten.errors)")
            #expect(try content(disk, "qcow2") == expected)
            try expectStarts()
            #expect(Files.names(state).sorted() == ["disk.img", "machine.json"])
        }
        #expect(try run(Parts.snabbvm, ["disk", "flatten", "--state", state]).code == 0)
        unlink(image.path)
        #expect(try content(disk, "qcow2") == expected)
        try expectStarts()
    }

    @Test func aDiskFollowsItsImage() throws {
        let image = try server.serve("disk.img", mebibytes: 4)
        try keptDisk(image.path)
        let expected = try content(disk, "qcow2")
        let moved = "\(scratch.path)/moved.img"
        try FileManager.default.moveItem(atPath: image.path, toPath: moved)
        try expectRefused(.image, "there is no such file", ["--state", state])
        #expect(try disk("rebase", moved).code == 0)
        #expect(try content(disk, "qcow2") == expected)
        try expectStarts()
        // Another one only by force, as one whose time says nothing.
        let other = try server.serve("other.img", mebibytes: 4).path
        let refused = try disk("rebase", other)
        #expect(refused.code == ExitCode.image.rawValue && refused.errors.contains("--force"), "\(refused)")
        utimes(moved, nil)
        try expectRefused(.image, "was changed", ["--state", state])
        #expect(try disk("rebase", "--force", moved).code == 0)
        try expectStarts()
        #expect(try content(disk, "qcow2") == expected)
    }

    /// While a machine has the disk, only looking is allowed.
    @Test func aDiskInUseIsLeftAlone() throws {
        let image = try server.serve("disk.img", mebibytes: 2)
        let machine = try TestMachine(TestMachine.kernel + ["--state", state, image.path], in: scratch)
        #expect(machine.isStarted(), "\(machine.errors)")
        #expect(try disk("info").output.contains("running"))
        for words in [["check"], ["flatten"], ["rebase", image.path], ["export", "\(scratch.path)/out"]] {
            let outcome = try run(Parts.snabbvm, ["disk"] + words + ["--state", state])
            #expect(outcome.code == ExitCode.busy.rawValue && outcome.errors.contains(state), "\(outcome)")
        }
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(machine.code() == 0)
    }

    // MARK: Block devices

    private struct Loop: ~Copyable {
        let path: String

        /// nil where there are none.
        init?(_ file: String) throws {
            let outcome = try run("losetup", ["--find", "--show", file])
            if outcome.code != 0 { return nil }
            path = outcome.output.trimmed
        }

        deinit { _ = try? run("losetup", ["--detach", path]) }
    }

    /// A node's time says nothing of the device; what was written to it, by any node, does.
    @Test(.enabled(if: Parts.isRoot && Parts.has("losetup"), "there is no root, or no losetup"))
    func aDeviceIsKnownByWhatIsWrittenToIt() throws {
        let image = try server.serve("disk.img", mebibytes: 4)
        guard let loop = try Loop(image.path) else { return }
        try expectStarts(loop.path)
        utimes(loop.path, nil)
        try expectStarts(loop.path)
        try expectStarts()
        // After a reboot its counters begin anew.
        var device = try #require(try recorded("device")?.object)
        (device["boot"], device["written"]) = ("another", 0)
        var base = try #require(try JSON(parsing: try Files.read(record, limit: 1 << 16))["image"]?.object)
        base["device"] = .object(device)
        try change(record, "image", to: .object(base))
        try expectStarts()
        let copied = try start(["--state", "\(scratch.path)/copied", "--copy", loop.path])
        #expect(copied.code == FailureKind.qemu.rawValue, "\(copied)")
        // Another node of the same device.
        let number = try Files.status(loop.path).st_rdev
        let node = "\(scratch.path)/node"
        try #require(mknod(node, S_IFBLK | 0o600, number) == 0)
        let file = try Descriptor.open(node, O_WRONLY)
        try [UInt8](repeating: 7, count: 4096).withUnsafeBytes { try file.write($0, at: 1 << 20) }
        try Errno.check { fsync(file.raw) }
        try expectRefused(.image, "was written to", ["--state", state])
    }

    // MARK: Copies

    /// A copy of what is being written is of no one moment.
    @Test func anImageThatIsBeingWrittenIsNotCopied() throws {
        let image = try server.serve("disk.img", mebibytes: 64).path
        let writer = try Background("qemu-io", ["-f", "raw", image, "-c", "sleep 600000"])
        defer { writer.end() }
        let lock = ":\(try Files.status(image).st_ino) "
        #expect(eventually(within: 30) { FileTree().text("/proc/locks")?.contains(lock) == true })
        for words in [["--copy"], []] { try expectRefused(.busy, image, ["--state", state] + words + [image]) }
        #expect(access(disk, F_OK) != 0)
    }

    @Test func anImageThatChangesWhileItIsCopiedIsNotTaken() throws {
        let image = try server.serve("disk.img", mebibytes: 64).path
        let script = "while :; do printf x | dd of='\(image)' bs=1 seek=5000000 conv=notrunc status=none; done"
        let writer = try Background("bash", ["-c", script])
        defer { writer.end() }
        usleep(100_000)
        try expectRefused(.image, "somebody wrote to it", ["--state", state, "--copy", image])
        #expect(access(disk, F_OK) != 0 && access("\(disk).new", F_OK) != 0)
        writer.end()
        try expectStarts("--copy", image)
    }

    // MARK: Passphrases and sizes

    private func encrypted(_ name: String, secret: String) throws -> String {
        let path = "\(server.root)/\(name)"
        let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
        let words = [
            "convert", "-O", "qcow2", "--object", "secret,id=s,file=\(secret)", "-o", options, Parts.demo, path,
        ]
        // It fails by chance where it measures this processor.
        #expect(try (0..<10).contains { _ in try run("qemu-img", words).code == 0 })
        return path
    }

    /// A disk with another passphrase than its image could never be opened.
    @Test(arguments: [[], ["--lazy"]]) func aWrongPassphraseLeavesNoDisk(_ options: [String]) throws {
        let (right, wrong) = (scratch.file("right", "correct horse"), scratch.file("wrong", "battery staple"))
        _ = try encrypted("disk.qcow2", secret: right)
        let url = server.url("disk.qcow2")
        try expectRefused(.image, "--secret-file", ["--state", state, "--secret-file", wrong] + options + [url])
        #expect(access(disk, F_OK) != 0)
        let outcome = try start(["--state", state, "--secret-file", right] + options + [url])
        #expect(outcome.code == FailureKind.qemu.rawValue, "\(outcome)")
        #expect(access(disk, F_OK) == 0)
    }

    private func size() throws -> Int64? {
        try JSON(parsing: try run("qemu-img", ["info", "-U", "--output=json", disk]).output)["virtual-size"]?.integer
    }

    /// The size that it has already is no reason to open what it stands on, nor is a larger one.
    @Test(arguments: ["plain", "encrypted", "refetched", "lazy"]) func theSameSizeCanBeAskedForAgain(_ kind: String)
        throws
    {
        let secret = scratch.file("secret", "correct horse")
        let image = try server.serve("disk.img", mebibytes: 6)
        var words = ["--disk-size", "64M"]
        switch kind {
        case "encrypted": words += ["--secret-file", secret, try encrypted("disk.qcow2", secret: secret)]
        case "lazy": words += ["--lazy", image.url]
        default: words.append(image.url)
        }
        if kind == "lazy" { try server.put(image.name, ["rate": 2_000_000]) }
        for megabytes in [64, 64, 96, 96] {
            words[1] = "\(megabytes)M"
            let outcome = try start(["--state", state] + words)
            #expect(outcome.code == FailureKind.qemu.rawValue, "\(outcome)")
            if kind == "refetched" { #expect(try cache.images("rm", "--force", "--all").code == 0) }
            let information = try Files.read(disk, limit: 32)
            #expect(information[24..<32].reduce(0) { $0 << 8 | Int($1) } == megabytes << 20)
        }
        try expectRefused(.image, "disks only grow", ["--state", state, "--disk-size", "64M"] + words.dropFirst(2))
    }

    // MARK: Power cuts

    /// An empty record, as a file system leaves it that was cut off: the disk itself says what it stands on.
    @Test(arguments: ["", "{\"uuid\"", nil]) func theDiskSaysWhatTheRecordDoesNot(_ left: String?) throws {
        let image = try server.serve("disk.img", mebibytes: 2)
        try expectStarts("--disk-size", "64M", image.url)
        let before = try JSON(parsing: try Files.read(record, limit: 1 << 16))
        unlink(record)
        if let left { try Files.create(record, Array(left.utf8), mode: 0o600) }
        let outcome = try start(["--state", state])
        #expect(outcome.code == FailureKind.qemu.rawValue, "\(outcome)")
        #expect(outcome.errors.contains("machine.json can't be read"), "\(outcome.errors)")
        let after = try JSON(parsing: try Files.read(record, limit: 1 << 16))
        #expect(before == after)
        try expectStarts(image.url)
    }

    /// What is kept is on the disk before it has its name.
    @Test(.enabled(if: Parts.has("strace"), "strace is missing")) func whatIsKeptIsSynced() throws {
        let image = try server.serve("disk.img", mebibytes: 2)
        let trace = "\(scratch.path)/trace"
        let machine = try TestMachine(
            ["--qemu", "/bin/false", "--cache", cache.path, "--state", state, image.url], in: scratch,
            wrapper: ["strace", "-y", "-o", trace, "-e", "trace=fsync,fdatasync,rename,renameat2"])
        #expect(machine.code() == FailureKind.qemu.rawValue, "\(machine.errors)")
        let calls = try String(contentsOfFile: trace, encoding: .utf8).split(separator: "\n").map(String.init)
        for file in [disk, record] {
            let name = try #require(
                calls.firstIndex { $0.hasPrefix("rename") && $0.contains("\"\(file)\"") }, "\(calls)")
            #expect(calls[..<name].contains { $0.hasPrefix("fsync") && $0.contains("<\(file).new>") }, "\(calls)")
            #expect(calls[name...].contains { $0.hasPrefix("fsync") && $0.contains("<\(state)>") }, "\(calls)")
        }
    }

    // MARK: What is not ours

    /// A disk of the user's, where a machine of this name would have its own.
    @Test(arguments: ["disk.img", "firmware-variables.fd", "disk.img.new"])
    func aUsersFileInTheScratchFolderStays(_ name: String) throws {
        let file = scratch.file("disks/test/\(name)", "precious")
        let image = try server.serve("disk.img", mebibytes: 2)
        for words in [[image.path], ["--qemu-arg", "-no-such-option", image.path]] {
            try expectRefused(.image, file, words)
            #expect(try Files.read(file, limit: 100) == Array("precious".utf8))
        }
    }

    /// What a guest has read of its image and what it reads next do not belong together any more.
    @Test func anImageThatIsOverwrittenUnderAMachineIsSaid() throws {
        let image = try server.serve("disk.img", mebibytes: 4)
        let machine = try TestMachine(TestMachine.kernel + [image.path], in: scratch)
        #expect(machine.isStarted(), "\(machine.errors)")
        #expect(try machine.ask("status", "--health").code == 0)
        let file = try Descriptor.open(image.path, O_WRONLY)
        try [UInt8](repeating: 7, count: 512).withUnsafeBytes { try file.write($0, at: 1 << 20) }
        #expect(eventually { (try? machine.ask("status", "--health"))?.code == 1 })
        #expect(try machine.ask("status", "--health").output.contains(image.path))
        #expect(try machine.ask("status").output.contains("was written to"))
        _ = try machine.ask("stop", "--now")
        #expect(machine.code() == FailureKind.image.rawValue)
        #expect(machine.errors.components(separatedBy: "was written to").count == 3, "\(machine.errors)")
        expectNothingLeft(scratch)
    }
}
