import Glibc
import Model
import System
import Values

/// A process that reads a file behind whoever writes it: told how far it may read, it tells what it found. It has
/// nothing but the files that it is given, and runs as nobody where it reads what strangers made.
class Follower {
    let worker: FetchWorker
    private var pid: pid_t = 0
    private let outlet: Outlet
    private let input: Descriptor
    private var isStopped = false
    private var status: ExitStatus?
    private var lastWords = ""
    private var told: UInt64 = 0
    private var sent: UInt64 = 0

    /// Somebody killed it, or the kernel did for want of memory: what it worked on is as good as before.
    struct WasKilled: Error { var words: String }

    init(
        _ worker: FetchWorker, _ verb: Verb, _ settings: JSON, files: [Int32], user: User? = nil,
        addressSpace: UInt64 = 0
    ) throws {
        self.worker = worker
        let (theirInput, ours) = try Descriptor.pipe()
        defer { close(theirInput) }
        input = Descriptor(ours)
        outlet = Outlet(ours, loop: worker.loop) {}
        try input.setNonBlocking()
        outlet.onEmpty = { [unowned self] in flush() }
        var command = Command(program: "/proc/self/exe", arguments: [verb.rawValue, settings.text])
        command.user = user
        command.addressSpace = addressSpace
        pid = try command.start(
            in: worker.loop, input: theirInput, passing: files,
            onLine: { [weak self] line in
                guard let self, !isStopped, let message = try? JSON(parsing: line) else { return }
                try take(message)
            },
            onWords: { [weak self] in self?.lastWords = $0 },
            onExit: { [self] status in
                self.status = status
                worker.loop.unwatch(ours)
                if isStopped { return }
                let said = lastWords.isEmpty ? "\(status)" : lastWords
                let words = "\(verb.rawValue)ing ended with \(said)"
                if status == .signal(SIGKILL) { throw WasKilled(words: words) }
                try end(status == .code(0) ? nil : words)
            })
    }

    /// What it says.
    func take(_ message: JSON) throws {}

    /// It ended; in order, unless there are words about how.
    func end(_ words: String?) throws {}

    var hasEnded: Bool { status != nil }

    /// How far the file is there. Who is slow is told the latest, and not all of it.
    func tell(_ frontier: UInt64) {
        told = max(told, frontier)
        flush()
    }

    /// The file is whole.
    func tellEnd(_ length: UInt64) {
        for word in [length, .max] { send(word) }
    }

    private func flush() {
        if told > sent, !outlet.isWaiting { send(told) }
    }

    private func send(_ word: UInt64) {
        if hasEnded { return }
        sent = word
        outlet.send(withUnsafeBytes(of: word.littleEndian) { Array($0) })
    }

    func stop() {
        isStopped = true
        if !hasEnded { kill(pid, SIGKILL) }
    }
}

/// The growing file, in the process that follows it.
struct FollowedFile: ~Copyable {
    static let descriptor: Int32 = 3
    private let file = Descriptor(FollowedFile.descriptor)
    private let input = Descriptor(dup(STDIN_FILENO))
    private var frontier: UInt64 = 0
    private(set) var isWhole = false

    /// Waits until there is something at the place; 0 at the end of the file.
    mutating func read(at place: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        while place >= frontier, !isWhole { try listen() }
        if place >= frontier { return 0 }
        let count = min(buffer.count, Int(frontier - place))
        let got = try Errno.check { pread(file.raw, buffer.baseAddress, count, off_t(place)) }
        // It has become shorter than it was said to be.
        if got == 0 { throw Errno(code: EIO) }
        return got
    }

    /// Waits for the whole file; its length.
    mutating func waitForEnd() throws(Errno) -> UInt64 {
        while !isWhole { try listen() }
        return frontier
    }

    private mutating func listen() throws(Errno) {
        var bytes: [UInt8] = []
        while bytes.count < 8 {
            let part = try input.read(atMost: 8 - bytes.count)
            // Whom it follows is gone.
            if part.isEmpty { throw Errno(code: EPIPE) }
            bytes += part
        }
        let value = bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        if value == .max { isWhole = true } else { frontier = value }
    }
}

extension Command {
    /// Starts it as a part of this program that tells what it does by lines.
    func start(
        in loop: EventLoop, input: Int32, passing files: [Int32] = [], onLine: @escaping (String) throws -> Void,
        onWords: @escaping (String) -> Void, onExit: @escaping (ExitStatus) throws -> Void
    ) throws -> pid_t {
        let (lines, output) = try Descriptor.pipe()
        let (words, errors) = try Descriptor.pipe()
        defer { for theirs in [output, errors] { close(theirs) } }
        let readers = [
            WordReader(lines, loop: loop, onLine: onLine), WordReader(words, loop: loop, onLine: onWords),
        ]
        return try start(
            in: loop, input: input, output: output, error: errors, passed: files, kind: .image
        ) { status in
            for reader in readers { try reader.finish() }
            try onExit(status)
        }
    }
}

/// What a follower says to whom it serves.
func sayMessage(_ message: JSON) {
    let bytes = Array("\(message.text)\n".utf8)
    _ = bytes.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
}

extension Failure {
    /// A library that could not be loaded, and why; the package of Debian that has it.
    static func refuse(_ why: UnsafePointer<CChar>?, _ library: String, package: String) throws(Failure) {
        guard let why else { return }
        throw Failure(.host, "load", library, String(cString: why), remedy: "apt-get install \(package)")
    }
}
