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

/// Answers that break the rules of HTTP, secrets that could go astray, and files that mean to do harm.
@Suite("What servers and files should not do", .enabled(if: WebServer.canRun, WebServer.missing), .serialized)
struct CarelessServerTests {
    private let scratch = Scratch()
    private let server: WebServer
    private let cache: TestCache

    init() throws {
        server = try WebServer(scratch.folder("www"))
        cache = TestCache(scratch)
    }

    // MARK: Answers

    /// Nobody asked whether anything is new: neither of an image that is not here, nor of half of one.
    @Test(arguments: [false, true]) func notModifiedIsNoAnswerToWhoHasNothing(_ hasPart: Bool) throws {
        let disk = try server.serve("disk.img")
        if hasPart { try cache.leavePart(of: disk, 3_000_000, on: server) }
        try server.put(disk.name, ["status": 304])
        let outcome = try cache.pull("--attempts", "2", disk.url)
        expectRefused(outcome, .fetch, disk.url)
        expectNoCrash(outcome)
        #expect(cache.disks == [])
        try server.reset()
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
    }

    /// An answer without a length that ends with its connection: is that all, or was it cut off?
    @Test(arguments: [nil, 3_000_000]) func anEndThatIsNoneIsDoubted(_ length: Int?) throws {
        let disk = try server.serve("disk.img")
        let rules: [String: JSON] = ["close_end": true, "no_ranges": true]
        let raw = ["--attempts", "2", "--format", "raw"]
        try server.put(
            disk.name, .object(length.map { rules.merging(["length": .integer(Int64($0))]) { $1 } } ?? rules))
        expectRefused(try cache.start(["pull"] + raw + [disk.url]).outcome(), .fetch, "does not say how long it is")
        // A second start has seen no answer of that kind.
        expectRefused(try cache.start(["pull"] + raw + [disk.url]).outcome(), .fetch, "does not say how long it is")
        #expect(cache.disks == [])
        let words = raw + ["--checksum", "sha256:\(disk.digest)", disk.url]
        let outcome = try cache.start(["pull"] + words).outcome()
        if length == nil { try expectFetched(outcome, disk, in: cache) } else { expectRefused(outcome, .checksum) }
    }

    /// What is packed says itself where it ends.
    @Test(.enabled(if: Parts.has("gzip"))) func whatIsPackedHasAnEndOfItsOwn() throws {
        let disk = try server.serve("disk.img")
        try #require(try run("bash", ["-ec", "gzip -1 < '\(disk.path)' > '\(server.root)/disk.gz'"]).code == 0)
        let size = Int64(try Files.status("\(server.root)/disk.gz").st_size)
        try server.put("disk.gz", ["close_end": true, "no_ranges": true, "length": .integer(size / 2)])
        expectRefused(try cache.pull("--attempts", "2", server.url("disk.gz")), .image, "cut short")
        try server.put("disk.gz", ["close_end": true, "no_ranges": true])
        let outcome = try cache.pull("--attempts", "2", server.url("disk.gz"))
        #expect(try digest(of: outcome.output.trimmed) == disk.digest, "\(outcome)")
    }

    /// As text: a JSON value can't be written by Foundation, as the runner does with arguments.
    private static let validators = ["{}", #"{"etag": "none"}"#, #"{"etag": "weak"}"#]

    /// The first answer told no length, so the second file's can't differ from it; all else does.
    @Test(arguments: validators)
    func partsOfAnotherFileAreNeverGluedOn(_ validators: String) throws {
        let (old, new) = (try server.serve("disk.img"), try server.serve("new.img"))
        utimes(old.path, [timeval(tv_sec: 1_000_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000_000, tv_usec: 0)])
        let careless: [String: JSON] = [
            "no_length": true, "swap": "new.img", "swap_after": 3_000_000, "ignore_if_range": true,
        ]
        let rules = (try JSON(parsing: validators).object ?? [:]).merging(careless) { $1 }
        try server.put(old.name, .object(rules))
        let outcome = try cache.pull("--attempts", "3", old.url)
        #expect(try server.statistics(old.name).requests.count > 1, "or it shows nothing")
        if outcome.code == 0 {
            try expectFetched(outcome, new, in: cache)
        } else {
            expectRefused(outcome, .fetch)
            #expect(cache.disks == [])
        }
    }

    /// As a part of it goes on, from where it is and from the beginning.
    @Test(arguments: [3_000_000, 0]) func aRangeBeyondAllNumbersIsNone(_ first: Int) throws {
        let disk = try server.serve("disk.img")
        // Without a length nothing tells that the range is wrong, but that no file has it.
        try cache.leavePart(of: disk, 3_000_000, on: server, and: ["no_length": true])
        let range = "bytes \(first)-18446744073709551614/18446744073709551615"
        try server.put(disk.name, ["content_range": .string(range)])
        let outcome = try cache.pull("--attempts", "2", disk.url)
        expectNoCrash(outcome)
        if outcome.code == 0 {
            try expectFetched(outcome, disk, in: cache)
        } else {
            let code: ExitCode = outcome.code == ExitCode.noSpace.rawValue ? .noSpace : .fetch
            expectRefused(outcome, code, "disk.img")
            #expect(cache.disks == [])
        }
    }

    // MARK: Secrets

    private static let secret = "s3cret"

    private func hasToken(_ request: JSON) -> Bool { request["headers"]?.array?.contains("x-token") == true }

    /// Whoever else is asked on the way is not told.
    @Test func headersAreForTheImagesHost() throws {
        let other = try WebServer(server.root)
        let disk = try server.serve("disk.img", mebibytes: 2)
        _ = scratch.file("www/SUMS", "\(disk.digest)  disk.img\n")
        let header = "X-Token: \(CarelessServerTests.secret)"
        try server.put(disk.name, ["need": .string(header)])
        let listed = try cache.pull("--header", header, "--checksum", other.url("SUMS"), disk.url)
        try expectFetched(listed, disk, in: cache)
        try server.put("near.img", ["redirect": .string(disk.url)])
        try expectFetched(try cache.pull("--header", header, server.url("near.img")), disk, in: cache)
        try server.put("far.img", ["redirect": .string(other.url(disk.name))])
        try expectFetched(try cache.pull("--header", header, server.url("far.img")), disk, in: cache)
        for name in [disk.name, "near.img", "far.img"] {
            let requests = try server.statistics(name).requests
            #expect(!requests.isEmpty && requests.allSatisfy(hasToken), "\(name): \(requests)")
        }
        for name in [disk.name, "SUMS"] {
            let requests = try other.statistics(name).requests
            #expect(!requests.isEmpty && !requests.contains(where: hasToken), "\(name): \(requests)")
        }
    }

    /// As it is without a header, where libcurl goes after a redirect by itself.
    @Test func aLoginGoesAlongOnTheSameHost() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try server.put(disk.name, ["auth": .string("user:\(CarelessServerTests.secret)")])
        try server.put("near.img", ["redirect": .string(disk.url)])
        let near = server.url("near.img")
        let address = "http://user:\(CarelessServerTests.secret)@" + near.dropFirst("http://".count)
        try expectFetched(try cache.pull("--header", "X-Other: 1", address), disk, in: cache)
    }

    private func expectHidden(_ outcome: Outcome, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let secret = CarelessServerTests.secret
        #expect(!(outcome.errors + outcome.output).contains(secret), "\(outcome)", sourceLocation: sourceLocation)
        #expect(try cache.files(with: secret) == [], sourceLocation: sourceLocation)
    }

    /// What is wrong with it may be that it is the value alone.
    @Test(arguments: [secret, "X-Other: 1\n" + secret]) func aHeaderWithoutAColonIsNotShown(_ lines: String) throws {
        let outcome = try cache.pull(server.url("disk.img"), environment: ["SNABBVM_HEADER": lines])
        expectRefused(outcome, .usage)
        try expectHidden(outcome)
        #expect(try server.statistics("disk.img").requests.isEmpty)
    }

    @Test(arguments: ["user:" + secret + "@127.0.0.1/with space.img", "user:" + secret + " word@127.0.0.1/disk.img"])
    func anAddressThatIsNoneKeepsItsPassword(_ address: String) throws {
        let outcome = try cache.pull("http://\(address)")
        expectRefused(outcome, .usage)
        try expectHidden(outcome)
    }

    /// It can be a password as well.
    @Test func theQueryOfAnAddressIsInNoListOfProcesses() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["stall_after": 3_000_000])
        let query = "token=\(CarelessServerTests.secret)-\(getpid())"
        let pull = try cache.start(["pull", "-v", "\(disk.url)?\(query)"])
        #expect(try cache.hasPart(of: disk, 3_000_000, from: server))
        #expect(eventually(within: 60) { processesNaming(query).isEmpty })
        #expect(processesNaming(query) == [])
        #expect(pull.isRunning)
        pull.signal(SIGTERM)
        try expectHidden(pull.outcome())
    }

    // MARK: Files

    /// Where its capacity is 0, QEMU reads the descriptor inside, which names any file it likes.
    @Test(.enabled(if: Parts.has("qemu-img"), "qemu-img is missing"))
    func aVMDKThatStandsOnOtherFilesIsRefusedUnread() throws {
        let pipe = "\(scratch.path)/pipe"
        #expect(mkfifo(pipe, 0o644) == 0)
        let descriptor = """
            # Disk DescriptorFile
            version=1
            CID=fffffffe
            parentCID=ffffffff
            createType="monolithicFlat"
            RW 2048 FLAT "\(pipe)" 0

            """
        var file = VMDK.header(capacity: 0)
        file += [UInt8](repeating: 0, count: 512 - file.count) + Array(descriptor.utf8)
        file += [UInt8](repeating: 0, count: 1 << 20 - file.count)
        _ = scratch.file("www/disk.vmdk", file)
        let pull = try cache.start(["pull", server.url("disk.vmdk")])
        var wasOpened = false
        // A pipe can be opened for writing when somebody reads it, or waits to.
        let hasEnded = eventually(within: 20) {
            let end = open(pipe, O_WRONLY | O_NONBLOCK)
            if end >= 0 {
                wasOpened = true
                close(end)
            }
            return !pull.isRunning
        }
        #expect(hasEnded && !wasOpened)
        expectRefused(pull.outcome(), .image, "other files", "disk.vmdk")
        #expect(cache.disks == [] && cache.leftovers == [])
    }
}

private enum VMDK {
    /// Of a sparse one, whose descriptor is in the second sector.
    static func header(capacity: UInt64) -> [UInt8] {
        let (version, flags, tableSize): (UInt32, UInt32, UInt32) = (1, 3, 512)
        var bytes = Array("KDMV".utf8) + littleEndian(version) + littleEndian(flags)
        // Then the size of a grain, and where the descriptor is, in sectors.
        for number in [capacity, 128, 1, 20] { bytes += littleEndian(number) }
        bytes += littleEndian(tableSize)
        for number in [0, 0, 128] as [UInt64] { bytes += littleEndian(number) }
        // What a transfer as text would have spoilt.
        return bytes + [0] + Array("\n \r\n".utf8)
    }
}

/// A process that fell over also ends with one line and a code, and with these words in it.
func expectNoCrash(_ outcome: Outcome, sourceLocation: SourceLocation = #_sourceLocation) {
    for words in ["Fatal error", "signal"] {
        #expect(!outcome.errors.contains(words), "\(outcome)", sourceLocation: sourceLocation)
    }
}
