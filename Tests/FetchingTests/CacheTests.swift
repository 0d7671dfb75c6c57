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

/// What was fetched once: used again, shared, listed, checked, and never damaged.
@Suite("The image cache", .enabled(if: WebServer.canRun, WebServer.missing), .serialized)
struct CacheTests {
    private let scratch = Scratch()
    private let server: WebServer
    private let cache: TestCache

    init() throws {
        server = try WebServer(scratch.folder("www"))
        cache = TestCache(scratch)
    }

    private static let noDemo: Comment = "the demo machine, QEMU, tmux or xorriso is missing (make demo)"

    // MARK: The second start

    @Test(arguments: ["{}", #"{"etag": "none"}"#, #"{"etag": "weak", "last_modified": false}"#])
    func anImageThatDidNotChangeIsNotFetchedAgain(_ validators: String) throws {
        let disk = try server.serve("disk.img")
        let rules = try JSON(parsing: validators)
        try server.put(disk.name, rules)
        let first = try expectFetched(try cache.pull(disk.url), disk, in: cache)
        try server.reset()
        try server.put(disk.name, rules)
        let second = try expectFetched(try cache.pull(disk.url), disk, in: cache)
        let statistics = try server.statistics(disk.name)
        #expect(first == second)
        #expect(statistics.sent == 0 && statistics.statuses == [304], "\(statistics)")
    }

    @Test func anImageThatChangedIsFetchedAndTheOldOneStays() throws {
        let old = try server.serve("disk.img")
        let first = try expectFetched(try cache.pull(old.url), old, in: cache)
        let new = try server.serve("disk.img", mebibytes: 7)
        let second = try expectFetched(try cache.pull(new.url), new, in: cache)
        #expect(first != second && cache.disks.count == 2)
        #expect(try digest(of: first) == old.digest)
        // From now on the new one is what the address means.
        try server.reset()
        #expect(try expectFetched(try cache.pull(new.url), new, in: cache) == second)
        #expect(try server.sent(new.name) == 0)
    }

    /// Nothing tells whether it changed, so it is fetched.
    @Test func anImageWithoutValidatorsIsNeverTakenForTheLatest() throws {
        let none: JSON = ["etag": "none", "last_modified": false]
        for _ in 0..<2 {
            let disk = try server.serve("disk.img", mebibytes: 2)
            try server.put(disk.name, none)
            try expectFetched(try cache.pull(disk.url), disk, in: cache)
        }
    }

    /// They can't be told from one another, so the old ones are of no use to anybody.
    @Test func ofAnImageWithoutValidatorsOneIsKept() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try server.put(disk.name, ["etag": "none", "last_modified": false])
        for _ in 0..<3 { try expectFetched(try cache.pull(disk.url), disk, in: cache) }
        #expect(cache.disks.count == 1, "\(cache.names)")
    }

    @Test func aFolderThatWasMovedIsTheSameCache() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        let moved = TestCache(scratch, "moved")
        try FileManager.default.moveItem(atPath: cache.path, toPath: moved.path)
        let sent = try server.sent(disk.name)
        try expectFetched(try moved.pull(disk.url), disk, in: moved)
        #expect(try server.sent(disk.name) == sent)
        server.stop()
        try expectFetched(try moved.pull("--attempts", "1", disk.url), disk, in: moved)
    }

    /// As a disk it is another image than what is packed in it.
    @Test(.enabled(if: Parts.has("gzip"), "gzip is missing"))
    func theFormatThatWasAskedForStaysWithItsImage() throws {
        let disk = try server.serve("x.raw", mebibytes: 2)
        #expect(try run("gzip", ["-1", disk.path]).code == 0)
        let url = server.url("x.raw.gz")
        let asItIs = try digest(of: try cache.pulled("--format", "raw", url))
        for _ in 0..<2 { #expect(try digest(of: try cache.pulled(url)) == disk.digest) }
        #expect(try digest(of: try cache.pulled("--format", "raw", url)) == asItIs)
    }

    @Test func withoutTheNetworkTheCacheDoes() throws {
        let disk = try server.serve("disk.img")
        let first = try expectFetched(try cache.pull(disk.url), disk, in: cache)
        server.stop()
        let outcome = try cache.pull("--attempts", "2", disk.url)
        #expect(try expectFetched(outcome, disk, in: cache) == first)
        let warnings = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("snabbvm: warning:") }
        #expect(warnings.count == 1 && warnings[0].contains("disk.img"), "\(outcome.errors)")
        // Of what it has, not of what it may be asked for.
        expectRefused(try cache.pull("--attempts", "1", server.url("other.img")), .fetch)
        let wrong = String(repeating: "0", count: 64)
        let refused = try cache.pull("--attempts", "1", "--checksum", "sha256:\(wrong)", disk.url)
        expectRefused(refused, .checksum, wrong, disk.digest)
    }

    @Test func aServerThatBrokeIsLikeNoNetwork() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        try server.put(disk.name, ["status": 503])
        let outcome = try cache.pull("--attempts", "2", disk.url)
        try expectFetched(outcome, disk, in: cache)
        #expect(outcome.errors.contains("warning") && outcome.errors.contains("503"), "\(outcome.errors)")
    }

    /// Nobody has ever compared it with the list, unless it was fetched with that one.
    @Test func withoutItsListAnImageIsNotTakenForTheRightOne() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        _ = scratch.file("www/SUMS", "\(disk.digest)  disk.img\n")
        let lists = try WebServer(server.root)
        let words = ["pull", "--attempts", "2", "--checksum", lists.url("SUMS"), disk.url]
        let compared = TestCache(scratch, "compared")
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        try expectFetched(try compared.start(words).outcome(), disk, in: compared)
        lists.stop()
        expectRefused(try cache.start(words).outcome(), .fetch, "SUMS")
        let outcome = try compared.start(words).outcome()
        try expectFetched(outcome, disk, in: compared)
        #expect(outcome.errors.contains("snabbvm: warning:"), "\(outcome.errors)")
    }

    @Test func theFolderIsBesideTheDisksOrWhereItIsSaid() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        let places = [
            ("disks/images", ["--scratch", "\(scratch.path)/disks"], [:]),
            ("elsewhere", [], ["SNABBVM_CACHE": "\(scratch.path)/elsewhere"]),
        ]
        for (folder, words, environment) in places {
            let all = cache.environment.merging(environment) { $1 }
            let outcome = try run(Parts.snabbvm, ["images", "pull"] + words + [disk.url], environment: all)
            try expectFetched(outcome, disk, in: TestCache(scratch, folder))
        }
    }

    // MARK: Several at once

    @Test(arguments: [2, 5]) func severalThatWantTheSameTransferItOnce(_ count: Int) throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["rate": 8_000_000])
        let pulls = try (0..<count).map { _ in try cache.start(["pull", disk.url]) }
        let outcomes = pulls.map { $0.outcome() }
        for outcome in outcomes { try expectFetched(outcome, disk, in: cache) }
        #expect(Set(outcomes.map(\.output)).count == 1 && cache.disks.count == 1)
        let sent = try server.sent(disk.name)
        #expect(sent >= disk.size && sent <= disk.size + disk.size / 20, "\(sent)")
    }

    /// Whoever waits for another goes on where that one was killed.
    @Test func theNextInLineGoesOn() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["stall_after": 4_000_000, "times": 1])
        let first = try cache.start(["pull", disk.url])
        #expect(try cache.hasPart(of: disk, 4_000_000, from: server))
        let second = try cache.start(["pull", disk.url])
        #expect(eventually(within: 30) { second.errors.contains("waiting for it") })
        #expect(second.isRunning)
        first.signal(SIGKILL)
        try expectFetched(second.outcome(), disk, in: cache)
        #expect(try server.sent(disk.name) <= disk.size + disk.size / 20)
    }

    // MARK: Looking at it

    @Test func listsAndRemoves() throws {
        let empty = try cache.images("ls")
        #expect(empty.code == 0, "\(empty)")
        #expect(try cache.entries() == [])
        let disks = try ["a.img", "b.img", "c.img"].map { try server.serve($0, mebibytes: 2) }
        for disk in disks { try expectFetched(try cache.pull(disk.url), disk, in: cache) }
        let table = try cache.images("ls").output
        #expect(try table == run(Parts.snabbvm, ["images", "--cache", cache.path]).output)
        let entries = try cache.entries()
        let names = entries.compactMap { $0["name"]?.string }
        #expect(names.count == 3 && names.allSatisfy { table.contains($0) }, "\(table)\n\(entries)")
        #expect(Set(entries.compactMap { $0["image"]?["source"]?.string }) == Set(disks.map(\.url)))
        // By the whole name, by as much of it as is needed, and not by less.
        let outcome = try cache.images("rm", names[0])
        #expect(outcome.code == 0, "\(outcome)")
        #expect(cache.disks.count == 2)
        let nothing = try cache.images("rm", "z.img")
        #expect(nothing.code != 0 && nothing.errors.contains("z.img"), "\(nothing)")
        #expect(try cache.images("rm", "b.img").code == 0)
        #expect(try cache.entries().compactMap { $0["name"]?.string } == [names[2]])
        #expect(try cache.images("rm", "--all").code == 0)
        #expect(cache.names == [])
    }

    @Test func aPrefixOfTwoRemovesNeither() throws {
        let disks = try ["disk-a.img", "disk-b.img"].map { try server.serve($0, mebibytes: 2) }
        for disk in disks { try expectFetched(try cache.pull(disk.url), disk, in: cache) }
        let outcome = try cache.images("rm", "disk")
        #expect(outcome.code != 0 && cache.disks.count == 2, "\(outcome)")
    }

    /// What was compared is not what has the name by now.
    @Test func aPartWhoseNameSomebodyElseTookIsNotTaken() throws {
        let disk = try server.serve("disk.img", mebibytes: 4)
        try server.put(disk.name, ["rate": 2_000_000])
        let pull = try cache.start(["pull", disk.url])
        #expect(try cache.hasPart(of: disk, 1_000_000, from: server))
        let part = "\(cache.path)/\(try #require(cache.names.first { $0.hasSuffix(".part") }))"
        try FileManager.default.moveItem(atPath: part, toPath: part + ".mine")
        try FileManager.default.copyItem(atPath: part + ".mine", toPath: part)
        expectRefused(pull.outcome(), .image, "somebody else has changed")
        #expect(cache.disks == [])
    }

    /// Its content and its name are on the disk before it is said that they are.
    @Test(.enabled(if: Parts.has("strace"), "strace is missing")) func whatIsSaidToBeSyncedIs() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        let trace = "\(scratch.path)/trace"
        let words = ["-f", "-y", "-o", trace, "-e", "trace=fsync,fdatasync,rename,renameat2", Parts.snabbvm, "images"]
        let outcome = try run("strace", words + ["pull", "--cache", cache.path, disk.url])
        try expectFetched(outcome, disk, in: cache)
        let calls = try String(contentsOfFile: trace, encoding: .utf8).split(separator: "\n").map(String.init)
        let named = try #require(calls.firstIndex { $0.contains("rename") && $0.contains(".disk\"") }, "\(calls)")
        let later = calls[named...]
        let content = try #require(later.firstIndex { $0.contains("fdatasync") && $0.contains(".disk>") }, "\(calls)")
        let name = try #require(later.firstIndex { $0.contains("fsync") && $0.contains("<\(cache.path)>") }, "\(calls)")
        let said = try #require(later.lastIndex { $0.contains("rename") && $0.contains(".json\"") }, "\(calls)")
        #expect(content < said && name < said, "\(calls)")
    }

    /// The name of what is half here begins those of all versions of it.
    @Test func aPartOfJustThatNameIsMeant() throws {
        let disk = try server.serve("disk.img")
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        let newer = try server.serve("disk.img")
        try server.put(disk.name, ["stall_after": 3_000_000])
        let pull = try cache.start(["pull", disk.url])
        #expect(try cache.hasPart(of: newer, 3_000_000, from: server))
        pull.signal(SIGTERM)
        _ = pull.code(within: 10)
        let part = try #require(cache.leftovers.first { $0.hasSuffix(".part") })
        let outcome = try cache.images("rm", String(part.dropLast(5)))
        #expect(outcome.code == 0 && cache.leftovers == [] && cache.disks.count == 1, "\(outcome) \(cache.names)")
    }

    /// Neither by its name, nor with all others, nor what is being unpacked from it.
    @Test(.enabled(if: Parts.has("gzip"), "gzip is missing"))
    func whatIsBeingFetchedIsNotRemoved() throws {
        let disk = try server.serve("disk.img")
        #expect(try run("gzip", ["-1", disk.path]).code == 0)
        let (name, path) = ("disk.img.gz", disk.path + ".gz")
        let packed = WebServer.Disk(
            name: name, path: path, url: server.url(name), size: try fileSize(path), digest: disk.digest)
        try server.put(name, ["rate": 2_000_000])
        let pull = try cache.start(["pull", packed.url])
        #expect(try cache.hasPart(of: packed, 1_000_000, from: server))
        for word in ["disk.img", "--all"] { expectRefused(try cache.images("rm", word), .busy, "disk.img") }
        #expect(pull.isRunning && cache.leftovers.count == 3, "\(cache.names)")
        try expectFetched(pull.outcome(), packed, in: cache)
    }

    /// What a crash left at any moment.
    @Test func removesWhatIsLeftOver() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        let stem = "disk.img-0123abcd"
        let names = [".new", ".new.layer", "-456789ab.json", "-cdef0123.disk"].map { stem + $0 }
        for name in names + ["notes.txt"] { _ = scratch.file("cache/\(name)", "x") }
        let outcome = try cache.images("rm", "--all")
        #expect(outcome.code == 0, "\(outcome)")
        #expect(cache.names == ["notes.txt"])
    }

    /// A name is a name, and leads nowhere.
    @Test(arguments: ["../outside", "/outside", "..", ".", ""]) func removesNothingElse(_ name: String) throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        _ = scratch.file("outside", "x")
        _ = scratch.file("outside.disk", "x")
        #expect(try cache.images("rm", name).code != 0)
        #expect(cache.names.count == 2)
        #expect(Files.names(scratch.path).sorted() == ["cache", "home", "outside", "outside.disk", "www"])
    }

    private enum Damage: CaseIterable {
        case oneByte, cutShort, gone

        func apply(to path: String) throws {
            chmod(path, 0o644)
            switch self {
            case .oneByte:
                let file = try Descriptor.open(path, O_RDWR)
                var byte: UInt8 = 0
                #expect(pread(file.raw, &byte, 1, 1_500_000) == 1)
                byte ^= 1
                #expect(pwrite(file.raw, &byte, 1, 1_500_000) == 1)
            case .cutShort: truncate(path, 1_500_000)
            case .gone: unlink(path)
            }
        }
    }

    @Test(arguments: Damage.allCases) private func findsWhatIsDamaged(_ damage: Damage) throws {
        let (good, bad) = (try server.serve("good.img", mebibytes: 2), try server.serve("bad.img", mebibytes: 2))
        try expectFetched(try cache.pull(good.url), good, in: cache)
        let path = try expectFetched(try cache.pull(bad.url), bad, in: cache)
        #expect(try cache.images("verify").code == 0)
        try damage.apply(to: path)
        let outcome = try cache.images("verify")
        if damage == .gone {
            // Nothing is left to boot, so there is nothing wrong either.
            #expect(!outcome.output.contains("bad.img-"), "\(outcome)")
        } else {
            expectOneBad(outcome, "bad.img")
            let verdicts = try cache.entries("verify")
            #expect(verdicts.count == 2, "\(verdicts)")
        }
        #expect(try cache.images("verify", "good.img").code == 0)
        // Removed and fetched again it is as good as new.
        if damage != .gone { #expect(try cache.images("rm", "bad.img").code == 0) }
        try expectFetched(try cache.pull(bad.url), bad, in: cache)
        #expect(try cache.images("verify").code == 0)
    }

    private func expectOneBad(
        _ outcome: Outcome, _ name: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let lines = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("snabbvm: cannot") }
        #expect(outcome.code == ExitCode.checksum.rawValue, "\(outcome)", sourceLocation: sourceLocation)
        #expect(lines.count == 1 && lines[0].contains(name), "\(outcome)", sourceLocation: sourceLocation)
    }

    // MARK: Records that are broken

    private static let broken = ["", "{", "null", "{\"present\":[[0,99999999]]}", "\u{0}\u{0}\u{0}\u{0}"]

    /// Without a record that can be read, nobody knows what the bytes are.
    @Test(arguments: broken) func aPartWithABrokenRecordIsFetchedAnew(_ record: String) throws {
        let disk = try server.serve("disk.img")
        try cache.leavePart(of: disk, 3_000_000, on: server)
        let name = try #require(cache.names.first { $0.hasSuffix(".part.json") })
        _ = scratch.file("cache/\(name)", record)
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
    }

    @Test func aPartThatIsGoneIsFetchedAnew() throws {
        let disk = try server.serve("disk.img")
        try cache.leavePart(of: disk, 3_000_000, on: server)
        let name = try #require(cache.names.first { $0.hasSuffix(".part") })
        unlink("\(cache.path)/\(name)")
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
    }

    @Test(arguments: broken) func anImageWithABrokenRecordIsFetchedAnew(_ record: String) throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        let name = try #require(cache.names.first { $0.hasSuffix(".json") })
        _ = scratch.file("cache/\(name)", record)
        let listed = try cache.images("ls")
        #expect(listed.code == 0, "\(listed)")
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
    }

    /// What others put there is no image, and nobody's to remove.
    @Test func strangersAreLeftAlone() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        for name in ["cache/notes.txt", "cache/folder/disk.img", "cache/x.disk"] { _ = scratch.file(name, "mine") }
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        #expect(try cache.images("ls").code == 0)
        #expect(try cache.images("rm", "--all").code == 0)
        #expect(cache.names == ["folder", "notes.txt", "x.disk"])
    }

    // MARK: Full disks

    /// A disk of 8 MB with one image in it.
    private func withSmallDisk(_ body: (TestCache, _ kept: WebServer.Disk) throws -> Void) throws {
        let folder = scratch.folder("small")
        #expect(try run("mount", ["-t", "tmpfs", "-o", "size=8M,mode=755", "none", folder]).code == 0)
        defer { _ = try? run("umount", ["--lazy", folder]) }
        let small = TestCache(scratch, "small/cache")
        let kept = try server.serve("kept.img", mebibytes: 2)
        try expectFetched(try small.pull(kept.url), kept, in: small)
        let before = small.names
        try body(small, kept)
        // What is here of another stays, and is no image's misfortune.
        for part in small.names where part.hasSuffix(".part") {
            #expect(try small.images("rm", String(part.dropLast(5))).code == 0)
        }
        #expect(small.names == before)
        #expect(try small.images("verify").code == 0)
        try server.put(kept.name, [:])
        try expectFetched(try small.pull(kept.url), kept, in: small)
    }

    private static let canMount = Parts.isRoot && Parts.has("mount", "umount")

    @Test(.enabled(if: canMount, "only root can mount")) func aDiskThatIsTooSmallIsSeenFirst() throws {
        try withSmallDisk { small, _ in
            let disk = try server.serve("disk.img", mebibytes: 12)
            try server.put(disk.name, ["rate": 4_000_000])
            expectRefused(try small.pull(disk.url), .noSpace)
            #expect(try server.sent(disk.name) < 3_000_000)
        }
    }

    @Test(.enabled(if: canMount, "only root can mount")) func aDiskThatGetsFullMidway() throws {
        try withSmallDisk { small, _ in
            let disk = try server.serve("disk.img", mebibytes: 12)
            try server.put(disk.name, ["no_length": true])
            expectRefused(try small.pull(disk.url), .noSpace)
        }
    }

    /// What has come before there was no room is not sent again.
    @Test(.enabled(if: canMount, "only root can mount")) func aFullDiskKeepsWhatWasFetched() throws {
        let folder = scratch.folder("small")
        #expect(try run("mount", ["-t", "tmpfs", "-o", "size=16M,mode=755", "none", folder]).code == 0)
        defer { _ = try? run("umount", ["--lazy", folder]) }
        let small = TestCache(scratch, "small/cache")
        let disk = try server.serve("disk.img", mebibytes: 8)
        let filling = "\(folder)/filling"
        #expect(try run("dd", ["if=/dev/zero", "of=\(filling)", "bs=1M", "count=11"]).code == 0)
        // Its length is not told, so there is no looking for room beforehand.
        try server.put(disk.name, ["no_length": true])
        let refused = try small.pull(disk.url)
        expectRefused(refused, .noSpace, "stays for the next start")
        let sent = try server.sent(disk.name)
        #expect(sent > 3_000_000)
        unlink(filling)
        try server.put(disk.name, [:])
        try expectFetched(try small.pull(disk.url), disk, in: small)
        let requests = try server.statistics(disk.name).requests
        #expect(try server.sent(disk.name) - sent < disk.size - 3_000_000, "\(requests)")
    }

    /// It had the room, and then somebody else took it.
    @Test(.enabled(if: canMount, "only root can mount")) func aDiskThatOthersFill() throws {
        try withSmallDisk { small, _ in
            let disk = try server.serve("disk.img", mebibytes: 4)
            try server.put(disk.name, ["stall_after": 1_000_000, "stall_seconds": 1])
            let pull = try small.start(["pull", disk.url])
            #expect(try small.hasPart(of: disk, 1_000_000, from: server))
            let filling = "\(scratch.path)/small/filling"
            _ = FileManager.default.createFile(atPath: filling, contents: nil)
            let file = try Descriptor.open(filling, O_WRONLY)
            let piece = [UInt8](repeating: 1, count: 1 << 16)
            while write(file.raw, piece, piece.count) == piece.count {}
            let outcome = pull.outcome()
            unlink(filling)
            // Unless all of its room was set aside at the beginning.
            if outcome.code == 0 {
                try expectFetched(outcome, disk, in: small)
                #expect(try small.images("rm", "disk.img").code == 0)
            } else {
                expectRefused(outcome, .noSpace)
            }
        }
    }

    // MARK: Machines

    /// A guest writes to an overlay; and what a machine has is not removed under it.
    @Test(.enabled(if: Parts.hasDemo, noDemo)) func aRunningMachineKeepsItsImage() throws {
        let disk = try server.serve("disk.img", mebibytes: 16)
        let write = "dd if=/dev/urandom of=/dev/vda bs=1M count=8 conv=fsync && echo wrote i''t; sleep 1000"
        let script = scratch.file("script", "#!/bin/sh\n\(write)\n")
        let words = TestMachine.kernel + ["--cache", cache.path, "-u", script, disk.url]
        let machine = try TestMachine(words, in: scratch)
        #expect(machine.shows("wrote it"), "\(machine.errors)\n\(machine.output.suffix(500))")
        for name in ["disk.img", "--all"] {
            expectRefused(try cache.images("rm", name), .busy, "disk.img")
            #expect(cache.disks.count == 1)
        }
        #expect(try cache.images("verify").code == 0)
        #expect(try machine.ask("stop", "--now").code == 0)
        #expect(eventually(within: 30) { !machine.isRunning })
        expectNothingLeft(scratch)
        #expect(try digest(of: "\(cache.path)/\(cache.disks[0])") == disk.digest)
        #expect(try cache.images("rm", "disk.img").code == 0)
        #expect(cache.names == [])
    }

    /// It is the same file, whenever it was fetched.
    @Test(.enabled(if: Parts.hasDemo, noDemo)) func aKeptDiskOutlivesTheCache() throws {
        let disk = try server.serve("disk.img")
        let place = 3_000_000
        let words = TestMachine.kernel + ["--state", "\(scratch.path)/state", "--cache", cache.path]
        let write = "echo kept | dd of=/dev/vda bs=1 seek=\(place) conv=notrunc,fsync && echo wrote i''t; poweroff"
        let writing = words + ["-u", scratch.file("write", "#!/bin/sh\n\(write)\n"), disk.url]
        let first = try TestMachine(writing, in: scratch)
        #expect(first.code() == 0, "\(first.errors)")
        #expect(first.output.contains("wrote it"), "\(first.output.suffix(500))")
        try FileManager.default.removeItem(atPath: cache.path)
        let read = "echo disk: $(dd if=/dev/vda bs=1 skip=\(place) count=4); sha256sum /dev/vda; poweroff"
        let reading = words + ["-u", scratch.file("read", "#!/bin/sh\n\(read)\n"), disk.url]
        let second = try TestMachine(reading, in: scratch)
        #expect(second.code() == 0, "\(second.errors)")
        #expect(!second.errors.contains("another image"), "\(second.errors)")
        #expect(second.output.contains("disk: kept"), "\(second.output.suffix(500))")
        expectNothingLeft(scratch)
        // All else is as it is in the image.
        let file = try Descriptor.open(disk.path, O_WRONLY)
        let written = pwrite(file.raw, Array("kept\n".utf8), 5, off_t(place))
        #expect(written == 5)
        #expect(second.output.contains(try digest(of: disk.path)), "\(second.output.suffix(500))")
    }

    /// A kept disk and what it stands on are in one place, unless it is said otherwise.
    @Test(.enabled(if: Parts.hasDemo, noDemo)) func aKeptDisksImageIsBesideIt() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        let words = ["--state", "\(scratch.path)/state", "--qemu", "/bin/false", disk.url]
        for _ in 0..<2 {
            let machine = try TestMachine(words, in: scratch)
            #expect(machine.code() == FailureKind.qemu.rawValue, "\(machine.errors)")
            #expect(TestCache(scratch, "state/images").disks.count == 1, "\(Files.names("\(scratch.path)/state"))")
        }
        // A byte more, by which it is seen that the file was one all the time.
        #expect(try server.sent(disk.name) == disk.size + 1)
        expectNothingLeft(scratch)
    }

    @Test(.enabled(if: Parts.hasDemo, noDemo)) func aMachineBootsWithoutTheNetwork() throws {
        let disk = try server.serve("disk.img")
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        server.stop()
        let script = scratch.file("script", "#!/bin/sh\necho disk: $(sha256sum < /dev/vda)\npoweroff\n")
        let words = TestMachine.kernel + ["--attempts", "1", "--cache", cache.path, "-u", script, disk.url]
        let machine = try TestMachine(words, in: scratch)
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(machine.output.contains("disk: \(disk.digest)"), "\(machine.output.suffix(500))")
        #expect(machine.errors.contains("snabbvm: warning:"), "\(machine.errors)")
        expectNothingLeft(scratch)
    }
}
