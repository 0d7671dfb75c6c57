import Glibc
import Model
import System
import Values

/// The launcher's side of a fetch: the process that does it, and what it tells.
package final class ImageFetch {
    private var request: FetchRequest
    private let loop: EventLoop
    private let log: Log
    private let display: ProgressDisplay
    private var pid: pid_t = 0
    private var hasEnded = false
    private var isOver = false
    private var started = ContinuousClock.now
    private var deaths = 0
    private var result: Result<DiskImage, Failure>?
    private var image: DiskImage? { try? result?.get() }

    /// How far it is, while a machine runs on it.
    package private(set) var progress: FetchProgress?
    /// What the machine reads is not what it should be, or will never come.
    package var onWrong: (Failure) -> Void = { _ in }

    package init(_ request: FetchRequest, loop: EventLoop, log: Log) throws {
        self.request = request
        self.loop = loop
        self.log = log
        display = ProgressDisplay(request.shown, log)
        try start()
    }

    private func start() throws {
        hasEnded = false
        started = .now
        let (theirInput, ours) = try Descriptor.pipe()
        defer { close(theirInput) }
        let writing = Descriptor(ours)
        pid = try Command(program: "/proc/self/exe", arguments: [Verb.fetch.rawValue]).start(
            in: loop, input: theirInput, onLine: { [unowned self] in take($0) },
            onWords: { [log] in log.verbose("fetch: \($0)") },
            onExit: { [self] status in
                hasEnded = true
                try ended(status)
            })
        // A pipe holds more than any request.
        try writing.writeAll(Array("\(try JSON(encoding: request).text)\n".utf8))
    }

    private func take(_ line: String) {
        guard let event = try? JSON(parsing: line).decode(FetchEvent.self) else { return log.verbose("fetch: \(line)") }
        switch event {
        case .note(let text): log.note(text)
        case .warning(let text): log.warning(text)
        case .progress(let progress):
            self.progress = progress
            if !isServed { display.show(progress) }
        case .ready(let image): succeed(image)
        case .served(let image, let expected):
            succeed(image)
            // The list may have another word for the next image by the time that another process goes on.
            (request.checksum, request.keyring) = (expected?.description, nil)
            log.note("\(request.shown): booting while it is fetched (\(ByteCount(image.fileSize)))")
        case .whole:
            let length = image?.fileSize ?? 0
            progress = FetchProgress(state: .whole, done: length, total: length)
            log.note("\(request.shown) is all here\(request.checksum == nil ? "" : ", and its checksum is right")")
        case .failed(let failure): fail(failure)
        }
    }

    private func succeed(_ image: DiskImage) {
        display.end(image)
        if result == nil { result = .success(image) }
    }

    private func fail(_ failure: Failure) {
        display.end(nil)
        if result == nil {
            result = .failure(failure)
        } else if isServed, progress?.state != .wrong, progress?.state != .whole {
            progress = progress ?? FetchProgress()
            progress?.state = .wrong
            onWrong(failure)
        }
    }

    /// A machine reads it from the fetching process.
    private var isServed: Bool { image?.served != nil }

    private func ended(_ status: ExitStatus) throws {
        display.end(nil)
        if result == nil {
            let cause = "the process that did it ended with \(status)"
            fail(Failure(.fetch, "fetch", request.shown, cause, remedy: "start again: it goes on where it was"))
        }
        guard isServed, progress?.state != .wrong, !isOver else { return }
        // What is here stays here, and QEMU waits for whoever listens at the socket next.
        log.warning("the process that fetches \(request.shown) ended with \(status); starting another")
        request.continued = image
        // At once the first time, ever later while that does not help.
        if ContinuousClock.now - started > .seconds(60) { deaths = 0 }
        deaths += 1
        loop.after(.milliseconds(200) * (1 << min(deaths, 7))) { [self] in
            if !isOver { try start() }
        }
    }

    /// The machine has ended.
    package func end() {
        isOver = true
        if !hasEnded { kill(pid, SIGKILL) }
    }

    /// Until it can be used.
    package func wait() throws -> DiskImage {
        try loop.run { result != nil }
        return try result!.get()
    }

    /// Until nothing more is done with it.
    package func waitForEnd() throws { try loop.run { hasEnded } }
}

/// A bar on a terminal, now and then a line elsewhere, JSON for programs.
final class ProgressDisplay {
    private let name: String
    private let log: Log
    private let started = ContinuousClock.now
    private var told = ContinuousClock.now
    private var last: FetchProgress?
    private var isOver = false

    init(_ name: String, _ log: Log) {
        self.name = String(name.split(separator: "/").last ?? "image")
        self.log = log
    }

    private static let lineEvery = Duration.seconds(5)
    private static let objectEvery = Duration.seconds(1)

    func show(_ progress: FetchProgress) {
        let isFirst = last == nil
        last = progress
        if isOver { return }
        switch log.style {
        case .terminal(let columns): log.showPassing(bar(progress, columns))
        case .lines:
            guard ContinuousClock.now - told >= ProgressDisplay.lineEvery else { return }
            told = .now
            log.note("\(name): \(words(progress))")
        case .objects:
            guard isFirst || ContinuousClock.now - told >= ProgressDisplay.objectEvery else { return }
            told = .now
            log.object([
                "level": "progress", "image": .string(name), "state": .string(progress.state.rawValue),
                "done": .integer(Int64(progress.done)), "total": progress.total.map { .integer(Int64($0)) } ?? .null,
                "rate": .integer(Int64(progress.rate)), "left": progress.left.map { .integer(Int64($0)) } ?? .null,
            ])
        }
    }

    /// The last word about it.
    func end(_ image: DiskImage?) {
        if isOver { return }
        isOver = true
        log.showPassing(nil)
        guard let image, let last, image.served == nil else { return }
        let seconds = max(0.001, (ContinuousClock.now - started) / .seconds(1))
        let rate = ByteCount(UInt64(Double(max(last.done, 1)) / seconds))
        let time = seconds < 10 ? "\(Double(Int(seconds * 10)) / 10) s" : Elapsed.duration(seconds)
        log.note("fetched \(name): \(ByteCount(last.done)) in \(time), \(rate)/s")
    }

    private func words(_ progress: FetchProgress) -> String {
        switch progress.state {
        case .fetching: break
        case .stalled: return "\(ByteCount(progress.done)), waiting for its server"
        case .checking: return "all here, looking at its checksum"
        case .unpacking: return "unpacking, \(ByteCount(progress.done)) so far"
        case .whole: return "all here"
        case .wrong: return "not what it should be"
        }
        guard let total = progress.total, total > 0 else {
            return "\(ByteCount(progress.done)), \(ByteCount(progress.rate))/s"
        }
        let left = progress.left.map { ", \(Elapsed.duration(Double($0))) left" } ?? ""
        return "\(progress.done * 100 / total) %, \(ByteCount(progress.done)) of \(ByteCount(total)), "
            + "\(ByteCount(progress.rate))/s\(left)"
    }

    private func bar(_ progress: FetchProgress, _ columns: Int) -> String {
        let words = words(progress)
        let room = columns - words.count - 6
        let shownName = String(name.suffix(max(8, min(name.count, room - 12))))
        let width = min(40, room - shownName.count)
        guard width >= 8, let total = progress.total, total > 0 else {
            return String("\(shownName)  \(words)".prefix(columns - 1))
        }
        let filled = min(width, Int(progress.done * UInt64(width) / total))
        let done = String(repeating: "=", count: filled)
        return "\(shownName) [\(done)\(String(repeating: " ", count: width - filled))] \(words)"
    }
}
