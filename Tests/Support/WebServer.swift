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
@testable import Values

/// A program that runs while the test goes on, and that does not outlive it.
final class Background {
    let pid: pid_t
    private let outputFile = temporaryFile()
    private let errorFile = temporaryFile()
    private var status: Int32?

    /// `input` is what it reads from; without one there is nothing to read.
    init(_ program: String, _ arguments: [String], environment: [String: String] = [:], input: Int32? = nil)
        throws
    {
        pid = try spawn(
            program, arguments, environment: environment, input: input, output: outputFile, errors: errorFile)
    }

    deinit { end() }

    var output: String { outputFile.text }
    var errors: String { errorFile.text }

    var isRunning: Bool {
        if status != nil { return false }
        var result: Int32 = 0
        if waitpid(pid, &result, WNOHANG) == pid { status = result }
        return status == nil
    }

    func signal(_ signal: Int32) { if isRunning { kill(pid, signal) } }

    /// Whatever it does, it ends now.
    func end() {
        signal(SIGKILL)
        _ = code(within: 10)
    }

    /// The exit code once it has ended, or 128 and the signal. One that hangs is ended, which nobody takes for success.
    @discardableResult
    func code(within seconds: Double = 60) -> Int32 {
        if !eventually(within: seconds, { !self.isRunning }) {
            kill(pid, SIGKILL)
            _ = eventually(within: 10) { !self.isRunning }
        }
        let status = status ?? SIGKILL
        return status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
    }

    func outcome() -> Outcome {
        let code = code()
        return Outcome(code: code, output: output, errors: errors)
    }
}

/// Tests/web/server with a folder to serve, which misbehaves as it is told to.
final class WebServer {
    static let canRun = Parts.has("python3", "curl")
    static let missing: Comment = "python3 or curl is missing"

    let root: String
    let port: Int
    private let scheme: String
    private let program: Background
    private let input: Int32

    struct Certificate {
        var path: String
        var key: String
    }

    /// What was asked of one path, and how many bytes of content went out.
    struct Statistics {
        var sent: Int
        var requests: [JSON]

        var statuses: [Int64] { requests.compactMap { $0["status"]?.integer } }
        var conditions: [String] { requests.compactMap { $0["if_range"]?.string } }
    }

    init(_ root: String, ftp: [String]? = nil, tls: Certificate? = nil, port wanted: Int = 0) throws {
        self.root = root
        scheme = ftp != nil ? "ftp" : tls != nil ? "https" : "http"
        var ends: [Int32] = [0, 0]
        // No other child may hold the end that closes when this one is to go.
        try Errno.check { pipe(&ends) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        defer { close(ends[0]) }
        input = ends[1]
        var words = [root, "--port", "\(wanted)"]
        if let ftp { words += ["--ftp"] + ftp }
        if let tls { words += ["--tls", tls.path, tls.key] }
        let program = try Background("\(Parts.folder)/Tests/web/server", words, input: ends[0])
        self.program = program
        _ = eventually(within: 30) { program.output.hasSuffix("\n") || !program.isRunning }
        let line = try #require(program.output.split(separator: "\n").first, "\(program.errors)")
        port = try #require(Int(line.split(separator: " ").last ?? ""), "\(line)")
    }

    deinit {
        stop()
        close(input)
    }

    /// From now on nobody answers at its port.
    func stop() { program.end() }

    func url(_ path: String, user: String? = nil) -> String {
        let login = user.map { "\($0)@" } ?? ""
        let plain = path.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) ?? path
        return "\(scheme)://\(login)127.0.0.1:\(port)/\(plain)"
    }

    // MARK: Control

    private func control(_ words: String...) throws -> String {
        let outcome = try run("curl", ["-sSfk", "--noproxy", "*", "--max-time", "30"] + words)
        if outcome.code != 0 { throw Failure(.unexpected, "tell", "the web server", outcome.errors) }
        return outcome.output
    }

    /// The rules for a path, in place of those that it had.
    func put(_ path: String, _ rules: JSON) throws {
        _ = try control("-X", "PUT", "-d", rules.text, url("-/rules/\(path)"))
    }

    func statistics(_ path: String) throws -> Statistics {
        let page = try JSON(parsing: try control(url("-/stats")))[path]
        return Statistics(sent: Int(page?["sent"]?.integer ?? 0), requests: page?["requests"]?.array ?? [])
    }

    func sent(_ path: String) throws -> Int { try statistics(path).sent }

    /// Forgets all rules and counts.
    func reset() throws { _ = try control("-X", "PUT", "-d", "", url("-/reset")) }

    // MARK: What it serves

    /// A disk of random bytes with a boot sector and one partition.
    struct Disk {
        var name: String
        var path: String
        var url: String
        var size: Int
        var digest: String
    }

    func serve(_ name: String, mebibytes: Int = 6) throws -> Disk {
        let path = "\(root)/\(name)"
        try Files.makeFolders((path as NSString).deletingLastPathComponent, mode: 0o755)
        try WebServer.makeDisk(path, mebibytes: mebibytes)
        return Disk(name: name, path: path, url: url(name), size: mebibytes << 20, digest: try digest(of: path))
    }

    /// Takes the place of what was there, if anything.
    private static func makeDisk(_ path: String, mebibytes: Int) throws {
        unlink(path)
        let random = try Descriptor.open("/dev/urandom", O_RDONLY)
        let file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
        var piece = [UInt8](repeating: 0, count: 1 << 20)
        for index in 0..<mebibytes {
            let count = read(random.raw, &piece, piece.count)
            try #require(count == piece.count)
            if index == 0 { piece.replaceSubrange(0..<512, with: bootSector(mebibytes: mebibytes)) }
            try file.writeAll(piece)
        }
    }

    private static func bootSector(mebibytes: Int) -> [UInt8] {
        var sector = [UInt8](repeating: 0, count: 512)
        // It boots nothing: interrupts off, and round in a circle.
        sector.replaceSubrange(0..<3, with: [0xfa, 0xeb, 0xfe])
        let littleEndian = { (value: Int) in (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
        let last = mebibytes << 11
        let entry: [UInt8] = [0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]
        sector.replaceSubrange(446..<462, with: entry + littleEndian(2048) + littleEndian(last - 2048))
        sector.replaceSubrange(510..<512, with: [0x55, 0xaa])
        return sector
    }
}

func digest(of path: String, _ algorithm: String = "sha256") throws -> String {
    let outcome = try run("\(algorithm)sum", [path])
    return String(outcome.output.prefix { $0 != " " })
}

extension WebServer.Certificate {
    /// Signed by itself, for this address.
    init(_ scratch: Scratch, name: String = "certificate", address: String = "IP:127.0.0.1") throws {
        path = "\(scratch.path)/\(name).pem"
        key = "\(scratch.path)/\(name).key"
        let outcome = try run(
            "openssl",
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", "/CN=test", "-addext", "subjectAltName=\(address)", "-keyout", key, "-out", path,
            ])
        #expect(outcome.code == 0, "\(outcome.errors)")
    }
}

/// A folder of fetched images, and the real program that fills it for a user with a home of his own.
struct TestCache {
    let path: String
    let environment: [String: String]

    init(_ scratch: Scratch, _ name: String = "cache") {
        path = "\(scratch.path)/\(name)"
        // Neither this machine's proxies nor its passwords, and no wait between tries.
        var environment = ["HOME": scratch.folder("home"), "SNABBVM_SLEEP": "0", "SNABBVM_TICK": "0"]
        for name in ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"] {
            environment[name] = ""
            environment[name.uppercased()] = ""
        }
        self.environment = environment
    }

    // MARK: Asking for images

    func start(_ words: [String], environment more: [String: String] = [:]) throws -> Background {
        let all = ["images", words[0], "--cache", path] + words.dropFirst()
        return try Background(Parts.snabbvm, all, environment: environment.merging(more) { $1 })
    }

    func images(_ words: String...) throws -> Outcome { try start(words).outcome() }

    func pull(_ words: String..., environment more: [String: String] = [:]) throws -> Outcome {
        try start(["pull"] + words, environment: more).outcome()
    }

    /// What `images ls --json` or `images verify --json` says of each.
    func entries(_ verb: String = "ls") throws -> [JSON] {
        let answer = try JSON(parsing: try images(verb, "--json").output)
        return try #require(answer.array ?? answer["images"]?.array, "\(answer.text)")
    }

    /// A start that came this far, and was told to end.
    func leavePart(
        of disk: WebServer.Disk, _ bytes: Int, on server: WebServer, and rules: [String: JSON] = [:]
    ) throws {
        try server.put(disk.name, .object(rules.merging(["stall_after": .integer(Int64(bytes))]) { $1 }))
        let pull = try start(["pull", disk.url])
        #expect(try hasPart(of: disk, bytes, from: server))
        pull.signal(SIGTERM)
        #expect(pull.code(within: 10) == 128 + SIGTERM, "\(pull.errors)")
        #expect(disks == [])
        try server.reset()
    }

    // MARK: What is there

    /// All files but locks, which may stay.
    var names: [String] { Files.names(path).filter { !$0.hasSuffix(".lock") }.sorted() }
    var disks: [String] { names.filter { $0.hasSuffix(".disk") } }
    var leftovers: [String] {
        names.filter { name in [".part", ".part.json", ".new"].contains { name.hasSuffix($0) } }
    }

    /// How much of the unfinished image is on the disk.
    var partSize: Int {
        guard let name = names.first(where: { $0.hasSuffix(".part") }),
            let status = try? Files.status("\(path)/\(name)")
        else { return 0 }
        return Int(status.st_blocks) * 512
    }

    /// Waits until so many bytes were sent, written, and recorded.
    func hasPart(of disk: WebServer.Disk, _ bytes: Int, from server: WebServer) throws -> Bool {
        try eventually(within: 30) {
            let recorded = ImageCache(folder: path).partials.map(\.record.present.count).reduce(0, +)
            return try server.sent(disk.name) >= bytes && recorded >= bytes
        }
    }

    /// The files that have the text in them or in their name.
    func files(with text: String) throws -> [String] {
        let wanted = Data(text.utf8)
        return try Files.names(path).filter { name in
            let content = try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
            return name.contains(text) || content.range(of: wanted) != nil
        }
    }
}

// MARK: - What tests expect

/// It is there, whole, and nothing besides; returns where.
@discardableResult
func expectFetched(
    _ outcome: Outcome, _ disk: WebServer.Disk, in cache: TestCache, sourceLocation: SourceLocation = #_sourceLocation
) throws -> String {
    let lines = outcome.output.split(separator: "\n").map(String.init)
    #expect(outcome.code == 0, "\(outcome)", sourceLocation: sourceLocation)
    #expect(lines.count == 1, "\(outcome)", sourceLocation: sourceLocation)
    let path = try #require(lines.first, "\(outcome)", sourceLocation: sourceLocation)
    #expect(path.hasPrefix("\(cache.path)/"), sourceLocation: sourceLocation)
    #expect(try digest(of: path) == disk.digest, "\(outcome)", sourceLocation: sourceLocation)
    #expect(cache.leftovers == [], sourceLocation: sourceLocation)
    return path
}

/// One line that has these words, and no path of an image.
func expectRefused(
    _ outcome: Outcome, _ code: ExitCode, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
) {
    let lines = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("snabbvm: cannot") }
    #expect(outcome.code == code.rawValue, "\(outcome)", sourceLocation: sourceLocation)
    #expect(lines.count == 1, "\(outcome)", sourceLocation: sourceLocation)
    for word in words {
        let isThere = lines.first?.contains(word) == true
        #expect(isThere, "no '\(word)' in \(outcome.errors)", sourceLocation: sourceLocation)
    }
    #expect(outcome.output == "", sourceLocation: sourceLocation)
}

/// As the README has them, so that nobody changes one by chance.
enum ExitCode: Int32 {
    case usage = 2
    case image = 4
    case busy = 7
    case noSpace = 11
    case fetch = 14
    case checksum = 15
}
