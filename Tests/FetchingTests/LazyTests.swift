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

/// Machines that run before their image is here. The demo is padded with noise, so that most of it is not needed to boot.
@Suite(
    "Booting while downloading",
    .enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"),
    .enabled(if: WebServer.canRun, WebServer.missing), .serialized)
struct LazyTests {
    private let scratch: Scratch
    private let cache: TestCache
    private let web: WebServer

    init() throws {
        scratch = Scratch()
        cache = TestCache(scratch)
        web = try WebServer(scratch.folder("www"))
    }

    private struct Image {
        var name: String
        var size: Int
        var digest: String
        /// What a start needs to say of it: as a raw disk it looks like the ISO that it begins with.
        var words: [String]
    }

    private func image(_ format: String, megabytes: Int = 60) throws -> Image {
        let (raw, name) = ("\(scratch.path)/padded", "demo.\(format)")
        let served = "\(scratch.path)/www/\(name)"
        let command = """
            { cat '\(Parts.demo)'; head -c \(megabytes)M /dev/urandom; } | head -c \(megabytes)M >'\(raw)'
            qemu-img convert -f raw -O \(format) '\(raw)' '\(served)'; rm '\(raw)'
            """
        try #require(try run("bash", ["-ec", command]).code == 0)
        let words = (format == "raw" ? ["--format", "raw"] : []) + [web.url(name)]
        return Image(name: name, size: try fileSize(served), digest: try digest(of: served), words: words)
    }

    private static let lazy = ["--lazy", "--sleep", "0", "--tick", "0"]

    private func start(_ words: [String]) throws -> TestMachine {
        // No proxy, and no .netrc, of whoever runs the tests.
        let settings = ["HOME=\(scratch.path)", "no_proxy=127.0.0.1", "SNABBVM_CACHE=\(cache.path)"]
        return try TestMachine(words, in: scratch, wrapper: ["env"] + settings)
    }

    /// As much as can be told without a guest: whoever gets to QEMU has the image.
    private func startWithoutQEMU(_ words: [String]) throws -> TestMachine {
        let machine = try start(words + ["--qemu", "/bin/false"])
        #expect(machine.code() == FailureKind.qemu.rawValue, "\(machine.errors)")
        return machine
    }

    private func slow(_ image: Image, to rate: Int64, and more: [String: JSON] = [:]) throws {
        try web.put(image.name, .object(more.merging(["rate": .integer(rate)]) { $1 }))
    }

    // MARK: What status says

    private func state(_ machine: TestMachine) -> String? { (try? machine.status())?["image"]?["state"]?.string }

    private func done(_ machine: TestMachine) -> Int { Int((try? machine.status())?["image"]?["done"]?.integer ?? 0) }

    private func comes(to state: String, _ machine: TestMachine) -> Bool {
        eventually { self.state(machine) == state || !machine.isRunning } && self.state(machine) == state
    }

    private func expectInCache(_ image: Image, sourceLocation: SourceLocation = #_sourceLocation) throws {
        #expect(eventually { self.cache.disks.count == 1 }, "\(cache.names)", sourceLocation: sourceLocation)
        let disk = try #require(cache.disks.first, sourceLocation: sourceLocation)
        #expect(try digest(of: "\(cache.path)/\(disk)") == image.digest, sourceLocation: sourceLocation)
        #expect(cache.leftovers == [], sourceLocation: sourceLocation)
    }

    // MARK: All goes well

    @Test(arguments: ["qcow2", "raw"])
    func theGuestIsUpBeforeItsImageIsHere(_ format: String) throws {
        // It would take more than a minute, which a guest does not.
        let image = try image(format, megabytes: 160)
        try slow(image, to: 2 << 20)
        let machine = try start(LazyTests.lazy + image.words)
        try #require(machine.isUp(), "\(machine.errors)\n\(machine.output.suffix(2000))")
        let (sent, status) = (try web.sent(image.name), try machine.status()["image"])
        print("lazy \(format): \(sent >> 20)M of \(image.size >> 20)M had crossed the link at the login")
        #expect(sent < image.size)
        #expect(status?["state"] == "fetching")
        #expect(status?["total"] == .integer(Int64(image.size)))
        #expect(try machine.ask("status").output.contains("image"))
        try web.put(image.name, [:])
        #expect(comes(to: "whole", machine), "\(machine.errors)")
        #expect(done(machine) == image.size)
        #expect(try web.sent(image.name) <= image.size * 102 / 100)
        try expectInCache(image)
        machine.signal(SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(machine.output.contains("powering off"))
        expectNothingLeft(scratch)
        // The next one has it, lazy or not.
        let all = try web.sent(image.name)
        _ = try startWithoutQEMU(LazyTests.lazy + image.words)
        _ = try startWithoutQEMU(image.words)
        #expect(try web.sent(image.name) == all)
    }

    // MARK: The link

    @Test func aLinkThatGoesAwayAndComesBack() throws {
        let image = try image("qcow2")
        // Whatever else happens, no connection lasts.
        try slow(image, to: 4 << 20, and: ["drop_after": .integer(5 << 20)])
        let machine = try start(LazyTests.lazy + ["--timeout", "2"] + image.words)
        #expect(eventually { self.done(machine) > 4 << 20 || !machine.isRunning }, "\(machine.errors)")
        let server = try #require(processesNaming(web.root).first { $0.contains("web/server") })
        let pid = try #require(pid_t(server.prefix { $0 != " " }))
        kill(pid, SIGSTOP)
        defer { kill(pid, SIGCONT) }
        #expect(comes(to: "stalled", machine), "\(machine.errors)")
        #expect(!machine.output.contains("snabbvm demo: ready"))
        kill(pid, SIGCONT)
        try #require(machine.isUp(), "\(machine.errors)\n\(machine.output.suffix(2000))")
        #expect(comes(to: "whole", machine), "\(machine.errors)")
        #expect(try web.sent(image.name) <= image.size * 110 / 100)
        try expectInCache(image)
        #expect(try machine.ask("stop", "--now").code == 0)
        expectNothingLeft(scratch)
    }

    /// The launcher's children that are itself, whatever they are called.
    private func children(_ machine: TestMachine) -> [pid_t] {
        let pids = FileTree().line("/proc/\(machine.pid)/task/\(machine.pid)/children") ?? ""
        return pids.split(separator: " ").compactMap { pid_t($0) }.filter {
            Files.linkTarget("/proc/\($0)/exe") == Parts.snabbvm
        }
    }

    @Test func theFetchingProcessKilledWhileTheGuestReads() throws {
        let image = try image("raw")
        try slow(image, to: 4 << 20)
        let machine = try start(LazyTests.lazy + image.words)
        for megabytes in [2, 6] {
            #expect(eventually { self.done(machine) > megabytes << 20 || !machine.isRunning }, "\(machine.errors)")
            let child = try #require(children(machine).first, "\(machine.processes)")
            kill(child, SIGKILL)
            #expect(eventually { self.children(machine).contains { $0 != child } }, "\(machine.errors)")
        }
        try #require(machine.isUp(), "\(machine.errors)\n\(machine.output.suffix(2000))")
        #expect(comes(to: "whole", machine), "\(machine.errors)")
        #expect(try web.sent(image.name) <= image.size * 110 / 100)
        try expectInCache(image)
        #expect(try machine.ask("stop", "--now").code == 0)
        expectNothingLeft(scratch)
    }

    @Test func theFetchingProcessKilledWhenAllIsHere() throws {
        let image = try image("raw", megabytes: 16)
        let read = "while :; do echo 3 >/proc/sys/vm/drop_caches; echo disk: $(sha256sum </dev/vda); done"
        let script = scratch.file("read", "#!/bin/sh\n\(read)\n")
        let machine = try start(LazyTests.lazy + TestMachine.kernel + ["-u", script] + image.words)
        let reads = { machine.output.components(separatedBy: "disk: \(image.digest)").count - 1 }
        #expect(comes(to: "whole", machine), "\(machine.errors)")
        #expect(eventually { reads() > 0 || !machine.isRunning }, "\(machine.output.suffix(500))")
        let child = try #require(children(machine).first, "\(machine.processes)")
        kill(child, SIGKILL)
        let before = reads()
        // One was perhaps all but done.
        #expect(eventually { reads() > before + 1 || !machine.isRunning }, "\(machine.errors)")
        #expect(comes(to: "whole", machine), "\(machine.errors)")
        #expect(try machine.status()["state"] == "running")
        #expect(try web.sent(image.name) <= image.size * 102 / 100)
        try expectInCache(image)
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(machine.code() == 0, "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    /// To a question without a condition that is no answer, and says nothing of the bytes that are missing.
    @Test func aServerThatSaysNotModifiedInTheMiddle() throws {
        let image = try image("qcow2", megabytes: 24)
        try slow(image, to: 4 << 20)
        let machine = try start(LazyTests.lazy + TestMachine.kernel + image.words)
        #expect(eventually { self.done(machine) > 4 << 20 || !machine.isRunning }, "\(machine.errors)")
        try web.put(image.name, ["status": 304, "times": 6])
        #expect(comes(to: "whole", machine), "\(machine.errors)")
        #expect(try web.statistics(image.name).statuses.filter { $0 == 304 }.count == 6)
        try expectInCache(image)
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(machine.code() == 0, "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    /// Whatever is said about the time between two questions: a machine asks for as long as it runs.
    @Test func aServerThatIsAwayIsNotAskedWithoutAPause() throws {
        let image = try image("qcow2", megabytes: 24)
        try slow(image, to: 4 << 20)
        let machine = try start(LazyTests.lazy + TestMachine.kernel + image.words)
        #expect(eventually { self.done(machine) > 4 << 20 || !machine.isRunning }, "\(machine.errors)")
        try web.put(image.name, ["status": 503])
        let asked = { try self.web.statistics(image.name).statuses.filter { $0 == 503 }.count }
        #expect(eventually { (try? asked()) ?? 0 > 3 })
        let (before, start) = (try asked(), ContinuousClock.now)
        sleep(2)
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let more = try asked() - before
        #expect(Double(more) < (seconds + 1) * 12, "\(more) times in \(seconds) s")
        try web.put(image.name, [:])
        #expect(comes(to: "whole", machine), "\(machine.errors)")
        try expectInCache(image)
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(machine.code() == 0, "\(machine.errors)")
        expectNothingLeft(scratch)
    }

    // MARK: Its end

    /// With it goes the fetching process, which nobody is to miss.
    @Test(arguments: ["poweroff", "SIGTERM", "stop --now"])
    func anEndInTheMiddleIsQuiet(_ end: String) throws {
        let image = try image("qcow2")
        try slow(image, to: 1 << 20)
        let script = scratch.file("script", "#!/bin/sh\n\(end == "poweroff" ? end : "true")\n")
        let machine = try start(LazyTests.lazy + TestMachine.kernel + ["-u", script] + image.words)
        if end != "poweroff" { try #require(machine.isUp(), "\(machine.errors)\n\(machine.output.suffix(500))") }
        if end == "SIGTERM" { machine.signal(SIGTERM) }
        if end == "stop --now" { #expect(try machine.ask("stop", "--now").code == 0) }
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(!machine.errors.contains("starting another"), "\(machine.errors)")
        // The last record may be half written: it takes the place of the one before when it is whole.
        let left = cache.leftovers.filter { !$0.hasSuffix(".json.new") }
        #expect(cache.disks == [] && left.count == 2, "\(cache.names)")
        expectNothingLeft(scratch)
    }

    // MARK: What is wrong with it

    private let wrong = String(repeating: "0123456789abcdef", count: 4)

    /// It is paused already.
    private func startWithWrongChecksum(_ image: Image) throws -> TestMachine {
        let machine = try start(LazyTests.lazy + TestMachine.kernel + ["--checksum", "sha256:\(wrong)"] + image.words)
        #expect(comes(to: "wrong", machine), "\(machine.errors)")
        #expect(eventually { (try? machine.status())?["state"] == "paused" })
        let health = try machine.ask("status", "--health")
        #expect(health.code == 1 && health.output == "machine test is paused\n", "\(health)")
        return machine
    }

    @Test func aWrongChecksumPausesTheMachine() throws {
        let image = try image("qcow2", megabytes: 24)
        let machine = try startWithWrongChecksum(image)
        let log = try #require(FileTree().text("\(scratch.path)/run/test/log"))
        #expect(log.contains(wrong) && log.contains(image.digest), "\(log)")
        #expect(cache.disks == [])
        _ = try machine.ask("stop", "--now")
        let outcome = Outcome(code: machine.code(), output: "", errors: machine.errors)
        expectRefused(outcome, .checksum, wrong, image.digest)
        #expect(cache.names == [])
        expectNothingLeft(scratch)
    }

    /// The paused machine has what it has; others may fetch the file, and keep it.
    @Test func aWrongChecksumIsNobodyElsesConcern() throws {
        let image = try image("qcow2", megabytes: 24)
        let machine = try startWithWrongChecksum(image)
        let pull = try cache.start(["pull", web.url(image.name)])
        #expect(pull.code(within: 30) == 0, "\(pull.errors)")
        #expect(!pull.errors.contains("waiting for it"), "\(pull.errors)")
        #expect(state(machine) == "wrong")
        _ = try machine.ask("stop", "--now")
        expectRefused(Outcome(code: machine.code(), output: "", errors: machine.errors), .checksum, wrong)
        try expectInCache(image)
        expectNothingLeft(scratch)
    }

    // MARK: What can't be lazy

    /// The first answer is read before there is a machine, and says what no file is.
    @Test(arguments: ["0-18446744073709551614/18446744073709551615", "0-65535/18446744073709551615"])
    func aRangeBeyondAllNumbersIsNone(_ range: String) throws {
        let image = try image("qcow2", megabytes: 24)
        try web.put(image.name, ["content_range": .string("bytes \(range)")])
        let machine = try start(LazyTests.lazy + ["--qemu", "/bin/false"] + image.words)
        let code = machine.code()
        let outcome = Outcome(code: code, output: "", errors: machine.errors)
        expectNoCrash(outcome)
        let lines = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("snabbvm: cannot") }
        #expect(lines.count == 1, "\(outcome)")
        // It was fetched first, or not at all.
        if code == FailureKind.qemu.rawValue {
            try expectInCache(image)
        } else {
            #expect([ExitCode.fetch.rawValue, ExitCode.noSpace.rawValue].contains(code), "\(outcome)")
            #expect(cache.disks == [])
        }
        expectNothingLeft(scratch)
    }

    private func expectPlain(_ machine: TestMachine, sourceLocation: SourceLocation = #_sourceLocation) {
        let lines = machine.errors.split(separator: "\n").filter { $0.contains("before the machine boots") }
        #expect(lines.count == 1, "\(machine.errors)", sourceLocation: sourceLocation)
    }

    @Test func withoutRangesItIsFetchedFirst() throws {
        let image = try image("qcow2", megabytes: 24)
        try web.put(image.name, ["no_ranges": true])
        let machine = try start(LazyTests.lazy + image.words)
        try #require(machine.isUp(), "\(machine.errors)\n\(machine.output.suffix(2000))")
        expectPlain(machine)
        #expect(try web.sent(image.name) <= image.size * 102 / 100)
        try expectInCache(image)
        #expect(try machine.ask("stop", "--now").code == 0)
        expectNothingLeft(scratch)
    }

    /// No part of a file, or nothing that tells one state of it from the next.
    @Test(arguments: [#"{"length_only_range": true}"#, #"{"etag": "none", "last_modified": false}"#])
    func otherServersThatCanNotServeParts(_ rules: String) throws {
        let image = try image("qcow2", megabytes: 24)
        try web.put(image.name, try JSON(parsing: rules))
        expectPlain(try startWithoutQEMU(LazyTests.lazy + image.words))
        try expectInCache(image)
    }

    @Test(.enabled(if: Parts.has("xz"), "xz is missing"))
    func packedImagesAreFetchedFirst() throws {
        let image = try image("qcow2", megabytes: 24)
        try #require(try run("xz", ["-0", "\(scratch.path)/www/\(image.name)"]).code == 0)
        expectPlain(try startWithoutQEMU(LazyTests.lazy + [web.url("\(image.name).xz")]))
        try expectInCache(image)
    }

    // MARK: From one start to the next

    @Test func theNextStartGoesOnWithThePart() throws {
        let image = try image("qcow2")
        try slow(image, to: 8 << 20)
        for megabytes in [10, 25] {
            let machine = try start(LazyTests.lazy + image.words)
            #expect(eventually { self.done(machine) > megabytes << 20 || !machine.isRunning }, "\(machine.errors)")
            #expect(try machine.ask("stop", "--now").code == 0)
            #expect(machine.code() == 0, "\(machine.errors)")
            #expect(cache.disks == [] && cache.leftovers.contains { $0.hasSuffix(".part") })
            expectNothingLeft(scratch)
        }
        try web.put(image.name, [:])
        _ = try cache.pulled(web.url(image.name))
        try expectInCache(image)
        #expect(try web.sent(image.name) <= image.size * 105 / 100)
    }

    /// The kept disk stands on an image that was not here when it was made.
    @Test func aKeptDiskOutlivesTheDownload() throws {
        let image = try image("raw")
        try slow(image, to: 4 << 20)
        let state = TestMachine.kernel + ["--state", "\(scratch.path)/state"]
        let write = "echo kept | dd of=/dev/vda bs=1 seek=50000000 conv=notrunc,fsync && echo wrote it; poweroff"
        let script = scratch.file("write", "#!/bin/sh\n\(write)\n")
        let first = try start(LazyTests.lazy + state + ["-u", script] + image.words)
        #expect(first.code() == 0, "\(first.errors)")
        #expect(first.output.contains("wrote it"), "\(first.output.suffix(500))")
        expectNothingLeft(scratch)
        try web.put(image.name, [:])
        let read = "echo disk: $(dd if=/dev/vda bs=1 skip=50000000 count=4); sha256sum /dev/vda; poweroff"
        let second = try start(state + ["-u", scratch.file("read", "#!/bin/sh\n\(read)\n")] + image.words)
        #expect(second.code() == 0, "\(second.errors)")
        #expect(second.output.contains("disk: kept"), "\(second.output.suffix(500))")
        try expectInCache(image)
        // All else is as it is in the image.
        let changed = "\(scratch.path)/www/\(image.name)"
        try #require(
            try run("bash", ["-ec", "printf 'kept\\n' | dd of='\(changed)' bs=1 seek=50000000 conv=notrunc"]).code == 0)
        #expect(second.output.contains(try digest(of: changed)), "\(second.output.suffix(500))")
    }

    // MARK: Faults beside it

    /// Bytes of two files are no disk: the machine that reads them is paused.
    @Test func aFileThatIsOverwrittenInPlacePausesTheMachine() throws {
        let image = try image("raw", megabytes: 24)
        let path = "\(scratch.path)/www/\(image.name)"
        #expect(try run("touch", ["-d", "2024-01-01", path]).code == 0)
        try slow(image, to: 4 << 20)
        let machine = try start(LazyTests.lazy + TestMachine.kernel + image.words)
        #expect(eventually { self.done(machine) > 8 << 20 || !machine.isRunning }, "\(machine.errors)")
        #expect(
            try run("bash", ["-ec", "head -c 1M /dev/urandom | dd of='\(path)' bs=1M seek=20 conv=notrunc"]).code == 0)
        #expect(comes(to: "wrong", machine), "\(machine.errors)")
        #expect(eventually { (try? machine.status())?["state"] == "paused" })
        _ = try machine.ask("stop", "--now")
        #expect(machine.code() == ExitCode.fetch.rawValue, "\(machine.errors)")
        #expect(machine.errors.contains("the file was changed on the server"), "\(machine.errors)")
        #expect(cache.disks == [])
    }

    /// It waits for room as it waits for a server, and goes on.
    @Test(.enabled(if: Parts.isRoot && Parts.has("mount", "umount"), "only root can mount"))
    func aFullDiskIsWaitedFor() throws {
        let folder = scratch.folder("cache")
        #expect(try run("mount", ["-t", "tmpfs", "-o", "size=64M,mode=755", "none", folder]).code == 0)
        defer { _ = try? run("umount", ["--lazy", folder]) }
        let image = try image("raw", megabytes: 24)
        try slow(image, to: 4 << 20)
        let machine = try start(LazyTests.lazy + TestMachine.kernel + image.words)
        #expect(eventually { self.done(machine) > 4 << 20 || !machine.isRunning }, "\(machine.errors)")
        _ = try run("dd", ["if=/dev/zero", "of=\(folder)/filling", "bs=64k"])
        #expect(eventually { machine.errors.contains("No space left on device") }, "\(machine.errors)")
        #expect(try machine.status()["state"] == "running")
        unlink("\(folder)/filling")
        #expect(comes(to: "whole", machine), "\(machine.errors)")
        _ = try machine.ask("stop", "--now")
        #expect(machine.code() == 0, "\(machine.errors)")
        try expectInCache(image)
    }

    /// What is here is served, whoever else fetches the same.
    @Test func aRestartedFetchWaitsForNobodysLock() throws {
        let image = try image("raw", megabytes: 96)
        try slow(image, to: 4 << 20)
        let script = scratch.file(
            "script",
            "#!/bin/sh\nwhile sleep 1; do echo 3 > /proc/sys/vm/drop_caches; "
                + "head -c 1048576 /dev/vda | wc -c | sed s/^/read/; done\n")
        let machine = try start(LazyTests.lazy + TestMachine.kernel + ["-u", script] + image.words)
        try #require(machine.shows("read1048576"), "\(machine.errors)\n\(machine.output.suffix(500))")
        // Whoever takes the lock next has it for long.
        let stem = try #require(cache.names.first { $0.hasSuffix(".part") }?.dropLast(5))
        let others = "\(cache.path)/\(stem).lock"
        let worker = try #require(
            processesNaming("/proc/self/exe fetch").compactMap { line -> Int32? in
                let pid = Int32(line.prefix { $0 != " " }) ?? 0
                return (FileTree().text("/proc/\(pid)/status") ?? "").contains("PPid:\t\(machine.pid)\n") ? pid : nil
            }.first)
        let holder = try Background("bash", ["-c", "exec 9>>'\(others)'; flock 9; echo held; sleep 600"])
        kill(worker, SIGKILL)
        #expect(eventually { holder.output.contains("held") })
        #expect(eventually { machine.errors.contains("the machine reads what it brings") }, "\(machine.errors)")
        let reads = machine.output.components(separatedBy: "read1048576").count
        #expect(eventually { machine.output.components(separatedBy: "read1048576").count > reads + 2 })
        holder.end()
        try web.put(image.name, [:])
        #expect(comes(to: "whole", machine), "\(machine.errors)")
        _ = try machine.ask("stop", "--now")
        #expect(machine.code() == 0, "\(machine.errors)")
        try expectInCache(image)
    }
}
