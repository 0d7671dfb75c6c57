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

/// From an address to a disk in the cache: the real program, and a server that misbehaves as it is told to.
@Suite("Fetching images", .enabled(if: WebServer.canRun, WebServer.missing), .serialized)
struct FetchTests {
    private let scratch = Scratch()
    private let server: WebServer
    private let cache: TestCache

    init() throws {
        server = try WebServer(scratch.folder("www"))
        cache = TestCache(scratch)
    }

    static let hasOpenSSL = Parts.has("openssl")
    static let noOpenSSL: Comment = "openssl is missing"

    /// No more than a twentieth of it crossed the link twice.
    private func expectSentOnce(_ disk: WebServer.Disk, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let sent = try server.sent(disk.name)
        #expect(sent >= disk.size && sent <= disk.size + disk.size / 10, "\(sent)", sourceLocation: sourceLocation)
    }

    // MARK: Plain

    @Test func aDiskComesWholeAndItsPathIsTold() throws {
        let disk = try server.serve("disk.img")
        let outcome = try cache.pull(disk.url)
        let path = try expectFetched(outcome, disk, in: cache)
        #expect(outcome.errors.contains("snabbvm: fetched disk.img: 6M in "), "\(outcome.errors)")
        #expect(path.hasPrefix("\(cache.path)/disk.img-") && path.hasSuffix(".disk"))
        #expect(cache.names.count == 2, "the disk and its record: \(cache.names)")
        try expectSentOnce(disk)
    }

    @Test func severalAtOnceAreToldInTheirOrder() throws {
        let disks = try ["b.img", "a.img"].map { try server.serve($0, mebibytes: 2) }
        let outcome = try cache.pull(disks[0].url, disks[1].url)
        #expect(outcome.code == 0, "\(outcome)")
        let digests = try outcome.output.split(separator: "\n").map { try digest(of: String($0)) }
        #expect(digests == disks.map(\.digest))
    }

    @Test func progressIsJSONWhenAsked() throws {
        let disk = try server.serve("disk.img")
        let outcome = try cache.pull("--json", disk.url)
        #expect(outcome.code == 0, "\(outcome)")
        let lines = try outcome.errors.split(separator: "\n").map { try JSON(parsing: String($0)) }
        let last = try #require(lines.last { $0["level"] == "progress" }, "\(outcome.errors)")
        #expect(last["done"]?.integer == Int64(disk.size) && last["total"]?.integer == Int64(disk.size))
        #expect(last["image"]?.string?.contains("disk.img") == true)
    }

    @Test(.enabled(if: Parts.has("script"), "script is missing"))
    func progressIsABarOnATerminal() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["rate": 6_000_000])
        let command = "'\(Parts.snabbvm)' images pull --cache '\(cache.path)' \(disk.url)"
        let terminal = ["no_proxy": "*", "TERM": "xterm"]
        let outcome = try run("script", ["-qec", command, "/dev/null"], environment: terminal)
        #expect(outcome.code == 0, "\(outcome)")
        #expect(outcome.output.contains("%") && outcome.output.contains("\r"), "\(outcome.output)")
    }

    /// One name in two folders, and names that want quoting.
    @Test(arguments: ["a/disk.img", "with space & 'quote'.img", "Bücher.img", "..%2f..%2fdisk.img"])
    func namesAreKeptApart(_ name: String) throws {
        let (first, second) = (try server.serve("disk.img", mebibytes: 2), try server.serve(name, mebibytes: 2))
        let paths = [
            try expectFetched(try cache.pull(first.url), first, in: cache),
            try expectFetched(try cache.pull(second.url), second, in: cache),
        ]
        #expect(Set(paths).count == 2)
        #expect(try digest(of: paths[0]) == first.digest)
        #expect(Files.names(scratch.path).sorted() == ["cache", "home", "www"])
    }

    // MARK: Links that break

    @Test func aLinkThatDropsGoesOnWhereItBroke() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["drop_after": 2_000_000])
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        try expectSentOnce(disk)
        let statistics = try server.statistics(disk.name)
        #expect(statistics.conditions.contains { $0.hasPrefix("\"") }, "\(statistics)")
        #expect(statistics.statuses.contains(206))
    }

    @Test func aServerThatFallsSilentIsAskedAgain() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["stall_after": 4_000_000])
        try expectFetched(try cache.pull("--timeout", "1", disk.url), disk, in: cache)
        try expectSentOnce(disk)
    }

    @Test func aServerThatNeverAnswersIsGivenUp() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["delay": 3600])
        expectRefused(try cache.pull("--timeout", "1", "--attempts", "2", disk.url), .fetch, "127.0.0.1")
        #expect(try server.statistics(disk.name).requests.count == 2)
        #expect(cache.disks == [])
    }

    @Test func aServerWithoutLengthIsTakenAtItsWord() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["no_length": true])
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
    }

    @Test func withoutLengthABrokenLinkIsNoEnd() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["no_length": true, "drop_after": 4_000_000, "times": 1])
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        #expect(try server.statistics(disk.name).requests.count > 1)
    }

    /// Every try brings something, and none brings it all: that must end as well.
    @Test func withoutRangesAndWithDropsItGivesUp() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["no_ranges": true, "drop_after": 2_000_000])
        expectRefused(try cache.pull("--attempts", "3", disk.url), .fetch, "127.0.0.1")
        #expect(try server.statistics(disk.name).requests.count <= 4)
        #expect(cache.disks == [])
    }

    /// More is promised than comes: what came is either the whole file, or nothing.
    @Test func aLengthThatIsTooLargeIsNeverBelieved() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["length": .integer(Int64(disk.size + 1_000_000))])
        let outcome = try cache.pull("--attempts", "2", disk.url)
        if outcome.code == 0 {
            try expectFetched(outcome, disk, in: cache)
        } else {
            expectRefused(outcome, .fetch, "127.0.0.1")
            #expect(cache.disks == [])
        }
    }

    /// Nothing but a checksum tells that there was more.
    @Test func aLengthThatIsTooSmallIsFoundByTheChecksum() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["length": 4_000_000])
        expectRefused(try cache.pull("--checksum", "sha256:\(disk.digest)", disk.url), .checksum, disk.digest)
        #expect(cache.names == [])
    }

    /// Where a server serves each connection slowly, several bring more; where all share one link, they bring nothing.
    @Test(arguments: ["rate_each", "rate"])
    func severalConnectionsAreTriedWhereTheFileIsLarge(_ rule: String) throws {
        let disk = try server.serve("large.img", mebibytes: 160)
        try server.put(disk.name, [rule: 24_000_000])
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        try expectSentOnce(disk)
        let ranges = try server.statistics(disk.name).requests.compactMap { $0["range"]?.string }
        #expect(rule == "rate" ? (1...6).contains(ranges.count) : ranges.count > 2, "\(ranges)")
    }

    // MARK: Files that change

    /// As text: a JSON value can't be written by Foundation, as the runner does with arguments.
    private static let validators = [
        "{}", #"{"etag": "none"}"#, #"{"etag": "weak"}"#, #"{"etag": "weak", "last_modified": false}"#,
        #"{"etag": "none", "last_modified": false}"#,
    ]

    /// Other bytes of the same length, in the middle of the transfer: they are never glued to the old ones.
    @Test(arguments: validators)
    func aFileThatChangesMidwayIsFetchedAnew(_ validators: String) throws {
        let (old, new) = (try server.serve("disk.img"), try server.serve("new.img"))
        // Dates of files count whole seconds.
        utimes(old.path, [timeval(tv_sec: 1_000_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000_000, tv_usec: 0)])
        let rules = (try JSON(parsing: validators).object ?? [:]).merging(["swap": "new.img", "swap_after": 3_000_000])
        { $1 }
        try server.put(old.name, .object(rules))
        let outcome = try cache.pull(old.url)
        let path = try #require(outcome.output.split(separator: "\n").first, "\(outcome)")
        #expect(try digest(of: String(path)) == new.digest, "\(outcome)")
        #expect(cache.leftovers == [])
    }

    @Test(arguments: validators)
    func aFileThatChangesBetweenTwoStartsIsFetchedAnew(_ validators: String) throws {
        let old = try server.serve("disk.img")
        utimes(old.path, [timeval(tv_sec: 1_000_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000_000, tv_usec: 0)])
        try cache.leavePart(of: old, 3_000_000, on: server)
        let new = try server.serve("disk.img")
        try server.put(new.name, try JSON(parsing: validators))
        try expectFetched(try cache.pull(new.url), new, in: cache)
    }

    /// What a server does with the rest that it is asked for.
    @Test(arguments: ["no_ranges", "wrong_range", "length_only_range", "no_length"])
    func aServerThatIsOddAboutRangesBreaksNothing(_ rule: String) throws {
        let disk = try server.serve("disk.img")
        try cache.leavePart(of: disk, 3_000_000, on: server)
        try server.put(disk.name, .object([rule: true]))
        let outcome = try cache.pull("--attempts", "2", disk.url)
        if rule == "wrong_range", outcome.code != 0 {
            expectRefused(outcome, .fetch, "127.0.0.1")
            #expect(cache.disks == [])
        } else {
            try expectFetched(outcome, disk, in: cache)
        }
    }

    // MARK: Answers

    @Test(arguments: [401, 403, 404, 410])
    func whatWillNotGetBetterIsAskedOnce(_ status: Int) throws {
        try server.put("disk.img", ["status": .integer(Int64(status))])
        expectRefused(try cache.pull(server.url("disk.img")), .fetch, "\(status)", server.url("disk.img"))
        #expect(try server.statistics("disk.img").requests.count == 1)
        #expect(cache.names == [])
    }

    @Test(arguments: [429, 500, 503])
    func whatMayGetBetterIsAskedAgain(_ status: Int) throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try server.put(disk.name, ["status": .integer(Int64(status))])
        expectRefused(try cache.pull("--attempts", "3", disk.url), .fetch, "\(status)")
        #expect(try server.statistics(disk.name).requests.count == 3)
        #expect(cache.names == [])
        try server.put(disk.name, ["status": .integer(Int64(status)), "times": 2])
        try expectFetched(try cache.pull("--attempts", "3", disk.url), disk, in: cache)
    }

    @Test func waitsGrow() throws {
        try server.put("disk.img", ["status": 500])
        let begin = ContinuousClock.now
        let waits = ["--attempts", "3", "--sleep", "0", "--tick", "1"]
        expectRefused(try cache.start(["pull"] + waits + [server.url("disk.img")]).outcome(), .fetch, "500")
        // 0 s, then 1 s.
        #expect(ContinuousClock.now - begin > .milliseconds(900))
    }

    @Test func redirectsAreFollowed() throws {
        let disk = try server.serve("disk.img")
        try server.put("latest.img", ["redirect": .string(disk.url)])
        try expectFetched(try cache.pull(server.url("latest.img")), disk, in: cache)
    }

    @Test func aCircleOfRedirectsEnds() throws {
        let url = server.url("disk.img")
        try server.put("disk.img", ["redirect": .string(url)])
        expectRefused(try cache.pull(url), .fetch, "redirect")
        #expect(try server.statistics("disk.img").requests.count <= 60)
    }

    /// A server has no say about the files of this host.
    @Test func aRedirectToAFileIsRefused() throws {
        let secret = try server.serve("secret.img")
        try server.put("disk.img", ["redirect": .string("file://\(secret.path)")])
        expectRefused(try cache.pull(server.url("disk.img")), .fetch)
        #expect(cache.names == [])
    }

    @Test func addressesThatLeadNowhere() throws {
        expectRefused(try cache.pull("--attempts", "1", "http://nowhere.invalid/disk.img"), .fetch, "nowhere.invalid")
        expectRefused(try cache.pull("gopher://127.0.0.1/disk.img"), .usage, "gopher")
        expectRefused(try cache.pull("http:///disk.img"), .fetch)
        server.stop()
        expectRefused(try cache.pull("--attempts", "2", server.url("disk.img")), .fetch, "127.0.0.1")
        #expect(cache.names == [])
    }

    // MARK: Certificates

    @Test(.enabled(if: hasOpenSSL, noOpenSSL)) func aCertificateThatNobodyKnowsIsRefused() throws {
        let certificate = try WebServer.Certificate(scratch)
        let secure = try WebServer(server.root, tls: certificate)
        let disk = try secure.serve("disk.img")
        expectRefused(try cache.pull(disk.url), .fetch, "certificate", "--cacert")
        #expect(try secure.sent(disk.name) == 0)
        let trusted = try cache.pull("--cacert", certificate.path, disk.url)
        try expectFetched(trusted, disk, in: cache)
        #expect(!trusted.errors.contains("warning"), "\(trusted.errors)")
    }

    @Test(.enabled(if: hasOpenSSL, noOpenSSL)) func insecureWorksAndShouts() throws {
        let secure = try WebServer(server.root, tls: try WebServer.Certificate(scratch))
        let disk = try secure.serve("disk.img")
        let outcome = try cache.pull("--insecure", disk.url)
        try expectFetched(outcome, disk, in: cache)
        #expect(outcome.errors.contains("warning") && outcome.errors.contains("certificate"), "\(outcome.errors)")
        // Quiet is not silent about that.
        #expect(try cache.pull("--insecure", "-q", disk.url).code == 0)
    }

    @Test(.enabled(if: hasOpenSSL, noOpenSSL)) func aCertificateForAnotherAddressIsRefused() throws {
        let certificate = try WebServer.Certificate(scratch, address: "DNS:images.example.org")
        let secure = try WebServer(server.root, tls: certificate)
        let disk = try secure.serve("disk.img")
        expectRefused(try cache.pull("--cacert", certificate.path, disk.url), .fetch, "certificate")
        #expect(cache.names == [])
    }

    @Test(.enabled(if: hasOpenSSL, noOpenSSL)) func aRedirectFromHTTPSToHTTPIsRefused() throws {
        let certificate = try WebServer.Certificate(scratch)
        let secure = try WebServer(scratch.folder("secure"), tls: certificate)
        let disk = try server.serve("disk.img")
        try secure.put("disk.img", ["redirect": .string(disk.url)])
        expectRefused(try cache.pull("--cacert", certificate.path, secure.url("disk.img")), .fetch, "http")
        #expect(try server.statistics(disk.name).requests.isEmpty)
        // The other way is a gain.
        let other = try secure.serve("other.img")
        try server.put("other.img", ["redirect": .string(other.url)])
        try expectFetched(try cache.pull("--cacert", certificate.path, server.url("other.img")), other, in: cache)
    }

    // MARK: Secrets

    private static let password = "s3cret-Word"
    private static let login = "user:\(password)"

    /// Neither printed nor in a file of the cache, plain or as HTTP writes it.
    private func expectHidden(_ outcome: Outcome, sourceLocation: SourceLocation = #_sourceLocation) throws {
        for secret in [FetchTests.password, Data(FetchTests.login.utf8).base64EncodedString()] {
            let isPrinted = outcome.errors.contains(secret) || outcome.output.contains(secret)
            #expect(!isPrinted, "\(outcome)", sourceLocation: sourceLocation)
            #expect(try cache.files(with: secret) == [], sourceLocation: sourceLocation)
        }
    }

    /// Nor in a list of processes.
    @Test func aPasswordInTheAddressIsSeenNowhere() throws {
        let disk = try server.serve("disk.img")
        let url = server.url(disk.name, user: FetchTests.login)
        try server.put(disk.name, ["auth": .string(FetchTests.login), "stall_after": 3_000_000])
        let pull = try cache.start(["pull", "-v", url])
        #expect(try cache.hasPart(of: disk, 3_000_000, from: server))
        #expect(eventually(within: 60) { processesNaming(FetchTests.password).isEmpty })
        #expect(processesNaming(FetchTests.password) == [])
        #expect(pull.isRunning)
        pull.signal(SIGTERM)
        try expectHidden(pull.outcome())
        #expect(cache.leftovers != [])
        try server.put(disk.name, ["auth": .string(FetchTests.login)])
        let second = try cache.pull("-v", url)
        try expectFetched(second, disk, in: cache)
        try expectHidden(second)
        try expectHidden(try cache.images("ls", "--json"))
        // The same file, whoever asks for it.
        try server.reset()
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        #expect(try server.sent(disk.name) == 0)
        try server.put(disk.name, ["status": 500])
        try expectHidden(try cache.pull("-v", "--attempts", "1", server.url("other", user: FetchTests.login)))
    }

    @Test func aWrongPasswordIsTriedOnce() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try server.put(disk.name, ["auth": .string(FetchTests.login)])
        let outcome = try cache.pull(server.url(disk.name, user: "user:wr0ng-Word"))
        expectRefused(outcome, .fetch, "401")
        #expect(!outcome.errors.contains("wr0ng-Word"))
        #expect(try server.statistics(disk.name).requests.count <= 2)
        // What stands for another sign in an address.
        try server.put(disk.name, ["auth": "us@r:a:b/c"])
        try expectFetched(try cache.pull(server.url(disk.name, user: "us%40r:a%3Ab%2Fc")), disk, in: cache)
    }

    @Test func aPasswordFromNetrc() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try server.put(disk.name, ["auth": .string(FetchTests.login)])
        expectRefused(try cache.pull(disk.url), .fetch, "401")
        let netrc = scratch.file(
            "home/.netrc", "machine 127.0.0.1\nlogin user\npassword \(FetchTests.password)\n")
        chmod(netrc, 0o600)
        let outcome = try cache.pull("-v", disk.url)
        try expectFetched(outcome, disk, in: cache)
        try expectHidden(outcome)
    }

    /// Who redirects is not told to whom it redirects.
    @Test func aPasswordStaysWithItsServer() throws {
        let other = try WebServer(server.root)
        let disk = try server.serve("disk.img", mebibytes: 2)
        try server.put(disk.name, ["auth": .string(FetchTests.login), "redirect": .string(other.url(disk.name))])
        try other.put(disk.name, ["auth": .string(FetchTests.login)])
        expectRefused(try cache.pull(server.url(disk.name, user: FetchTests.login)), .fetch, "401")
        #expect(try other.statistics(disk.name).statuses == [401])
    }

    @Test func headersAreSent() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try server.put(disk.name, ["need": .string("X-Token: \(FetchTests.password)")])
        expectRefused(try cache.pull(disk.url), .fetch, "403")
        let file = scratch.file("token", "X-Token: \(FetchTests.password)\n")
        let outcome = try cache.pull("-v", "--header", "X-Other: 1", "--header", "@\(file)", disk.url)
        try expectFetched(outcome, disk, in: cache)
        try expectHidden(outcome)
        try expectFetched(
            try cache.pull("--header", "X-Token: \(FetchTests.password)", disk.url), disk, in: cache)
        expectRefused(try cache.pull("--header", "no colon", disk.url), .usage, "--header")
    }

    // MARK: Proxies, and other ways than HTTP

    @Test func proxiesComeFromTheEnvironment() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        // The server takes a full address as well, as a proxy does.
        let proxy = "http://127.0.0.1:\(server.port)"
        let outcome = try cache.pull("http://images.invalid/disk.img", environment: ["http_proxy": proxy])
        try expectFetched(outcome, disk, in: cache)
        let direction = "by http and without --checksum, anybody on the way can put in another image"
        #expect(outcome.errors.contains("warning: http://images.invalid/disk.img: \(direction)"), "\(outcome)")
        let words = ["pull", "--checksum", "sha256:\(disk.digest)", "http://images.invalid/disk.img"]
        let sure = try cache.start(words, environment: ["http_proxy": proxy]).outcome()
        #expect(sure.code == 0 && !sure.errors.contains("warning"), "\(sure)")
        let nobody = "http://127.0.0.1:1"
        let direct = try cache.pull("--attempts", "1", disk.url, environment: ["http_proxy": nobody])
        expectRefused(direct, .fetch)
        let spared = ["http_proxy": nobody, "no_proxy": "127.0.0.1"]
        try expectFetched(try cache.pull(disk.url, environment: spared), disk, in: cache)
    }

    @Test(.enabled(if: hasOpenSSL, noOpenSSL)) func httpsHasAProxyOfItsOwn() throws {
        let certificate = try WebServer.Certificate(scratch)
        let secure = try WebServer(server.root, tls: certificate)
        let disk = try secure.serve("disk.img", mebibytes: 2)
        let words = ["pull", "--attempts", "1", "--cacert", certificate.path, disk.url]
        let nobody = "http://127.0.0.1:1"
        expectRefused(try cache.start(words, environment: ["https_proxy": nobody]).outcome(), .fetch)
        try expectFetched(try cache.start(words, environment: ["http_proxy": nobody]).outcome(), disk, in: cache)
    }

    @Test func ftpGoesOnToo() throws {
        let ftp = try WebServer(server.root, ftp: ["--drop-after", "4000000"])
        let disk = try ftp.serve("folder/disk.img")
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        expectRefused(try cache.pull(ftp.url("folder/none.img")), .fetch, "none.img")
    }

    @Test func filesHaveAddressesToo() throws {
        let disk = try server.serve("with space.img", mebibytes: 2)
        let path = disk.path.replacingOccurrences(of: " ", with: "%20")
        for address in ["file://\(path)", "file://localhost\(path)"] {
            let outcome = try cache.pull(address)
            #expect(outcome.code == 0, "\(outcome)")
            #expect(try digest(of: String(outcome.output.dropLast())) == disk.digest)
        }
        let missing = try cache.pull("file:///nowhere/disk.img")
        #expect([ExitCode.image.rawValue, ExitCode.fetch.rawValue].contains(missing.code), "\(missing)")
        #expect(missing.errors.contains("/nowhere/disk.img"))
    }

    // MARK: Checksums

    private static let wrong = String(repeating: "0", count: 64)

    @Test func aChecksumThatIsRight() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["drop_after": 4_000_000])
        try expectFetched(try cache.pull("--checksum", "sha256:\(disk.digest)", disk.url), disk, in: cache)
        let longer = TestCache(scratch, "longer")
        let sum = "sha512:\(try digest(of: disk.path, "sha512").uppercased())"
        try expectFetched(try longer.pull("--checksum", sum, disk.url), disk, in: longer)
    }

    @Test func aChecksumThatIsWrongLeavesNothing() throws {
        let disk = try server.serve("disk.img")
        let words = ["pull", "--checksum", "sha256:\(FetchTests.wrong)", disk.url]
        expectRefused(try cache.start(words).outcome(), .checksum, FetchTests.wrong, disk.digest)
        #expect(cache.names == [])
        // Nor is that asked of the network alone.
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        expectRefused(try cache.start(words).outcome(), .checksum, FetchTests.wrong, disk.digest)
    }

    @Test(arguments: ["sha256:12", "sha256:" + String(repeating: "g", count: 64), "md5:12", "sha1:", ""])
    func aChecksumThatIsNone(_ sum: String) throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        expectRefused(try cache.pull("--checksum", sum, disk.url), .usage, "checksum")
        #expect(try server.statistics(disk.name).requests.isEmpty)
    }

    private static let layouts: [@Sendable (_ digest: String, _ name: String) -> String] = [
        { "\($0)  \($1)" }, { "\($0) *\($1)" }, { "SHA256 (\($1)) = \($0)" }, { "\($0)  ./\($1)" },
    ]

    @Test(arguments: layouts.indices) func aListOfChecksums(_ layout: Int) throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        let line = FetchTests.layouts[layout]
        let other = line(FetchTests.wrong, "disk.img.xz") + "\n" + line(FetchTests.wrong, "my-disk.img") + "\n"
        let list = scratch.file("www/SUMS", "# a comment\n" + other + line(disk.digest, "disk.img") + "\n")
        try expectFetched(try cache.pull("--checksum", server.url("SUMS"), disk.url), disk, in: cache)
        let second = TestCache(scratch, "second")
        try expectFetched(try second.pull("--checksum", list, disk.url), disk, in: second)
        _ = scratch.file("www/SUMS", other + line(FetchTests.wrong, "disk.img") + "\r\n")
        let third = TestCache(scratch, "third")
        let outcome = try third.pull("--checksum", server.url("SUMS"), disk.url)
        expectRefused(outcome, .checksum, FetchTests.wrong, disk.digest)
        #expect(third.names == [])
    }

    @Test func aListOfLongChecksums() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        _ = scratch.file("www/SHA512SUMS", "\(try digest(of: disk.path, "sha512"))  disk.img\n")
        try expectFetched(try cache.pull("--checksum", server.url("SHA512SUMS"), disk.url), disk, in: cache)
    }

    @Test func aListThatIsOfNoUse() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        let list = scratch.file("www/SUMS", "\(disk.digest)  other.img\n")
        expectRefused(try cache.pull("--checksum", list, disk.url), .checksum, "disk.img", "SUMS")
        expectRefused(try cache.pull("--checksum", server.url("none"), disk.url), .fetch, "404", "none")
        #expect(cache.disks == [])
    }

    static let hasGPG = Parts.has("gpg", "gpgv", "gpgconf")

    @Test(.enabled(if: hasGPG, "gpg or gpgv is missing")) func aSignedList() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        let signer = try Signer(scratch)
        let list = scratch.file("www/SUMS", "\(disk.digest)  disk.img\n")
        for suffix in [".gpg", ".sign", ".asc"] {
            try signer.sign(list, to: list + suffix, armoured: suffix != ".gpg")
            let own = TestCache(scratch, "cache\(suffix)")
            let words = ["pull", "--checksum", server.url("SUMS"), "--keyring", signer.keyring, disk.url]
            try expectFetched(try own.start(words).outcome(), disk, in: own)
            unlink(list + suffix)
        }
        // A signature around the list, rather than beside it.
        try signer.gpg("--clear-sign", "--output", "\(scratch.path)/www/INLINE", list)
        let words = ["pull", "--checksum", server.url("INLINE"), "--keyring", signer.keyring, disk.url]
        try expectFetched(try cache.start(words).outcome(), disk, in: cache)
    }

    @Test(.enabled(if: hasGPG, "gpg or gpgv is missing")) func aListThatNobodySigned() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        let (signer, stranger) = (try Signer(scratch), try Signer(scratch, "stranger"))
        let list = scratch.file("www/SUMS", "\(disk.digest)  disk.img\n")
        let words = ["pull", "--checksum", server.url("SUMS"), "--keyring", signer.keyring, disk.url]
        expectRefused(try cache.start(words).outcome(), .checksum, "SUMS")
        try stranger.sign(list, to: list + ".gpg")
        expectRefused(try cache.start(words).outcome(), .checksum, "SUMS")
        // A good signature, of another list.
        try signer.sign(list, to: list + ".gpg")
        _ = scratch.file("www/SUMS", "\(disk.digest)  disk.img\n\n")
        expectRefused(try cache.start(words).outcome(), .checksum, "SUMS")
        // What stands outside of the signed part is nobody's word.
        try signer.gpg("--clear-sign", "--output", "\(scratch.path)/inline", scratch.file("other", "nothing\n"))
        let inline = try String(contentsOfFile: "\(scratch.path)/inline", encoding: .utf8)
        unlink(list + ".gpg")
        _ = scratch.file("www/SUMS", "\(disk.digest)  disk.img\n\(inline)")
        expectRefused(try cache.start(words).outcome(), .checksum, "SUMS")
        #expect(cache.disks == [])
    }

    // MARK: Keywords

    private func catalogue(_ disk: WebServer.Disk) -> String {
        let entry: JSON = ["url": .string(disk.url), "checksum": .string(server.url("SUMS"))]
        return scratch.file("images.json", (["mine": entry] as JSON).text)
    }

    @Test func aKeywordStandsForAnAddress() throws {
        let disk = try server.serve("disk.img")
        _ = scratch.file("www/SUMS", "\(disk.digest)  disk.img\n")
        let images = catalogue(disk)
        try expectFetched(try cache.pull("--images", images, "mine"), disk, in: cache)
        try server.reset()
        try expectFetched(try cache.pull("--images", images, "mine"), disk, in: cache)
        #expect(try server.sent(disk.name) == 0)
        server.stop()
        let outcome = try cache.pull("--images", images, "--attempts", "1", "mine")
        try expectFetched(outcome, disk, in: cache)
        #expect(outcome.errors.contains("warning"), "\(outcome.errors)")
    }

    /// A latest image that changed comes with a list that changed.
    @Test func aKeywordMeansTheLatest() throws {
        for mebibytes in [2, 3] {
            let disk = try server.serve("disk.img", mebibytes: mebibytes)
            _ = scratch.file("www/SUMS", "\(disk.digest)  disk.img\n")
            try expectFetched(try cache.pull("--images", catalogue(disk), "mine"), disk, in: cache)
        }
        _ = scratch.file("www/SUMS", "\(FetchTests.wrong)  disk.img\n")
        let images = "\(scratch.path)/images.json"
        expectRefused(try cache.pull("--images", images, "mine"), .checksum, FetchTests.wrong)
    }

    @Test func aCatalogueThatIsBroken() throws {
        let broken = scratch.file("images.json", "{\"mine\": 1")
        expectRefused(try cache.pull("--images", broken, "mine"), .usage, "images.json")
    }

    // MARK: Its end

    @Test(arguments: [SIGTERM, SIGINT]) func aSignalEndsItAndTheNextStartGoesOn(_ signal: Int32) throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["stall_after": 4_000_000])
        let pull = try cache.start(["pull", disk.url])
        #expect(try cache.hasPart(of: disk, 4_000_000, from: server))
        pull.signal(signal)
        #expect(pull.code(within: 60) == 128 + signal, "\(pull.errors)")
        #expect(cache.disks == [] && cache.leftovers.count == 2, "\(cache.names)")
        try server.put(disk.name, [:])
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        try expectSentOnce(disk)
    }

    /// The digest's process, for want of memory perhaps: what came stays.
    @Test func aHelperThatIsKilledCostsNothing() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["stall_after": 4_000_000])
        let pull = try cache.start(["pull", disk.url])
        #expect(try cache.hasPart(of: disk, 4_000_000, from: server))
        let children = { (pid: pid_t) in
            (FileTree().line("/proc/\(pid)/task/\(pid)/children") ?? "").split(separator: " ").compactMap { pid_t($0) }
        }
        let helper = try #require(children(pull.pid).flatMap(children).first)
        kill(helper, SIGKILL)
        expectRefused(pull.outcome(), .fetch, "start again")
        #expect(cache.leftovers.count == 2, "\(cache.names)")
        try server.put(disk.name, [:])
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        try expectSentOnce(disk)
    }

    /// Pages that never reached the disk, though a digest was taken of them: that is found, and made good.
    @Test(arguments: [true, false]) func aPartFromBeforeACrashIsReadAgain(_ hasChecksum: Bool) throws {
        let disk = try server.serve("large.img", mebibytes: 100)
        try cache.leavePart(of: disk, 80_000_000, on: server)
        let part = "\(cache.path)/" + (try #require(cache.leftovers.first { $0.hasSuffix(".part") }))
        let record = try String(contentsOfFile: part + ".json", encoding: .utf8)
        #expect(record.contains("\"state\""), "a digest of a part of it is kept")
        let now = try #require(FileTree().line("/proc/sys/kernel/random/boot_id"))
        let then = record.replacingOccurrences(of: now, with: "another boot")
        #expect(then != record)
        try then.write(toFile: part + ".json", atomically: false, encoding: .utf8)
        let file = try #require(FileHandle(forUpdatingAtPath: part))
        try file.seek(toOffset: 1_000_000)
        try file.write(contentsOf: Data(count: 8192))
        try file.close()
        let checksum = hasChecksum ? ["--checksum", "sha256:\(disk.digest)"] : []
        try expectFetched(try cache.start(["pull"] + checksum + [disk.url]).outcome(), disk, in: cache)
    }

    /// At moments that nobody chose, in the middle of 300 MB.
    @Test func killedTwentyTimesItSendsNextToNothingTwice() throws {
        let disk = try server.serve("large.img", mebibytes: 286)
        try server.put(disk.name, ["rate": 60_000_000])
        var random = RandomBytes(seed: 4)
        for _ in 0..<20 {
            let pull = try cache.start(["pull", disk.url])
            usleep(UInt32(20_000 + random.next(340_000)))
            pull.signal(SIGKILL)
            pull.code()
            #expect(eventually(within: 60) { processesNaming(cache.path).isEmpty })
        }
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        try expectSentOnce(disk)
        #expect(try server.statistics(disk.name).requests.count > 10)
    }

    // MARK: Machines

    private static let noDemo: Comment = "the demo machine, QEMU, tmux or xorriso is missing (make demo)"

    /// The whole way, from an address to a guest that tells what it was given.
    @Test(.enabled(if: Parts.hasDemo, noDemo)) func aMachineBootsFromAnAddress() throws {
        symlink(Parts.demo, "\(server.root)/demo.iso")
        try server.put("demo.iso", ["auth": .string(FetchTests.login)])
        let userData = "#cloud-config\n{}\n"
        let url = server.url("demo.iso", user: FetchTests.login)
        let words = ["-v", "--cache", cache.path, "-u", scratch.file("user-data", userData), url]
        let machine = try TestMachine(words, in: scratch)
        #expect(machine.isUp(), "\(machine.errors)\n\(machine.output.suffix(2000))")
        #expect(machine.given("user-data") == userData)
        let log = FileTree().text("\(scratch.path)/run/test/log") ?? ""
        #expect(log.contains("demo.iso"))
        let status = try machine.ask("status", "--json").output
        for text in [log, machine.errors, status] { #expect(!text.contains(FetchTests.password)) }
        #expect(processesNaming(FetchTests.password) == [])
        machine.signal(SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(cache.disks.count == 1)
        expectNothingLeft(scratch)
    }

    @Test(.enabled(if: Parts.hasDemo, noDemo)) func aStopWhileItIsFetched() throws {
        let disk = try server.serve("disk.img")
        try server.put(disk.name, ["stall_after": 4_000_000])
        let machine = try TestMachine(["--cache", cache.path, disk.url], in: scratch)
        #expect(try cache.hasPart(of: disk, 4_000_000, from: server))
        machine.signal(SIGTERM)
        #expect(machine.code() == 0, "\(machine.errors)")
        #expect(machine.errors.contains("stopped before machine test was started"), "\(machine.errors)")
        #expect(cache.leftovers.count == 2 && cache.disks == [], "\(cache.names)")
        expectNothingLeft(scratch)
    }

    @Test(.enabled(if: Parts.hasDemo, noDemo)) func aMachineWhoseImageCannotBeHad() throws {
        for (words, code) in [
            ([server.url("none.img")], ExitCode.fetch),
            (["--checksum", "sha256:\(FetchTests.wrong)", try server.serve("disk.img").url], .checksum),
        ] {
            let machine = try TestMachine(["--cache", cache.path] + words, in: scratch)
            let outcome = Outcome(code: machine.code(), output: machine.output, errors: machine.errors)
            expectRefused(outcome, code)
            #expect(cache.names == [])
            expectNothingLeft(scratch)
        }
    }

    @Test(.enabled(if: Parts.hasDemo, noDemo)) func aDryRunTouchesNothing() throws {
        let disk = try server.serve("disk.img")
        let before = Files.names(scratch.path).sorted()
        let own =
            TestMachine.options(scratch, name: "test") + [
                "--vnc", "off", "--accel", "tcg", "-m", "256", "--hugepages", "off",
            ]
        let url = server.url(disk.name, user: FetchTests.login)
        let outcome = try run(Parts.snabbvm, ["--dry-run", "--cache", cache.path] + own + [url])
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(outcome.output.contains("disk.img"))
        #expect(!outcome.output.contains(FetchTests.password))
        #expect(Files.names(scratch.path).sorted() == before)
        #expect(try server.sent(disk.name) == 0)
    }

    // MARK: Overwritten in place

    /// The old file's beginning and the new one's end are of no file.
    @Test(arguments: [1, 4, 7]) func aFileThatIsOverwrittenInPlaceIsFetchedAnew(_ megabytes: Int) throws {
        let disk = try server.serve("disk.img", mebibytes: 8)
        // Whole seconds tell one time from another.
        #expect(try run("touch", ["-d", "2024-01-01", disk.path]).code == 0)
        try server.put(disk.name, ["stall_after": .integer(Int64(megabytes) << 20), "stall_seconds": 2, "times": 1])
        let pull = try cache.start(["pull", disk.url])
        #expect(try cache.hasPart(of: disk, megabytes << 20, from: server))
        let script =
            "head -c 8M /dev/urandom | dd of='\(disk.path)' bs=1M seek=0 conv=notrunc oflag=seek_bytes iflag=fullblock"
        let boot = try Files.read(disk.path, limit: 512)
        #expect(try run("bash", ["-ec", script]).code == 0)
        let file = try Descriptor.open(disk.path, O_WRONLY)
        try boot.withUnsafeBytes { try file.write($0, at: 0) }
        let outcome = pull.outcome()
        #expect(outcome.errors.contains("was changed on the server"), "\(outcome)")
        let now = WebServer.Disk(
            name: disk.name, path: disk.path, url: disk.url, size: disk.size, digest: try digest(of: disk.path))
        try expectFetched(outcome, now, in: cache)
    }

    /// The server is asked once more, and only where no digest says it better.
    @Test func theEndIsConfirmedOnce() throws {
        let disk = try server.serve("disk.img", mebibytes: 2)
        try expectFetched(try cache.pull(disk.url), disk, in: cache)
        #expect(try server.statistics(disk.name).statuses == [200, 206])
        #expect(try server.sent(disk.name) == disk.size + 1)
        let checked = TestCache(scratch, "checked")
        try server.reset()
        try expectFetched(try checked.pull("--checksum", "sha256:\(disk.digest)", disk.url), disk, in: checked)
        #expect(try server.statistics(disk.name).statuses == [200])
    }

    /// A signed address may have expired by then.
    @Test func aServerThatDoesNotSayIsTakenAtItsWord() throws {
        let disk = try server.serve("disk.img", mebibytes: 6)
        try server.put(disk.name, ["stall_after": 5_000_000, "stall_seconds": 2, "times": 1])
        let pull = try cache.start(["pull", disk.url])
        #expect(try cache.hasPart(of: disk, 5_000_000, from: server))
        try server.put(disk.name, ["status": 403])
        let outcome = pull.outcome()
        try expectFetched(outcome, disk, in: cache)
        let warnings = outcome.errors.split(separator: "\n").filter { $0.contains("warning") }
        #expect(warnings.count == 1 && warnings[0].contains("--checksum would tell"), "\(outcome.errors)")
    }
}

/// Somebody with a key of their own.
private final class Signer {
    private let home: String
    let keyring: String

    init(_ scratch: Scratch, _ name: String = "signer") throws {
        home = scratch.folder(name)
        chmod(home, 0o700)
        keyring = "\(scratch.path)/\(name).gpg"
        let owner = "\(name)@example.org"
        try gpg("--passphrase", "", "--quick-generate-key", owner, "ed25519", "sign", "never")
        try gpg("--output", keyring, "--export", owner)
    }

    deinit { _ = try? run("gpgconf", ["--homedir", home, "--kill", "gpg-agent"]) }

    func gpg(_ words: String...) throws {
        let outcome = try run("gpg", ["--homedir", home, "--batch", "--yes", "--quiet"] + words)
        #expect(outcome.code == 0, "\(outcome.errors)")
    }

    func sign(_ path: String, to signature: String, armoured: Bool = false) throws {
        try gpg(armoured ? "--armor" : "--no-armor", "--output", signature, "--detach-sign", path)
    }
}
