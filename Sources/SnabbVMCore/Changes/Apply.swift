import CLinux
import Glibc

/// Makes the planned steps, each change in the ledger before it is made, the programs side by side.
struct StepRunner {
    let ledger: Ledger
    let loop: EventLoop
    let folders: Folders
    let log: Log

    /// Below it nothing is taken back.
    private var keptFolder: String? { folders.disksAreKept ? folders.disks : nil }

    func run(_ steps: [Step]) throws {
        try ledger.record(steps.flatMap(changes))
        var running: [any PendingStep] = []
        for step in steps {
            log.verbose(step.summary)
            if let pending = try start(step) { running.append(pending) }
        }
        for pending in running { try pending.finish() }
    }

    private func isKept(_ path: String) -> Bool { keptFolder.map { path.hasPrefix($0 + "/") } ?? false }

    private func changes(for step: Step) -> [Change] {
        switch step {
        case .folder(let path, _, let isShared, _):
            if path == keptFolder { return [] }
            if isShared { return Files.missingFolders(path).map { .folder(path: $0, isShared: true) } }
            // Also what a crash of the whole host left there, whose ledger was in memory.
            let leftovers = path == folders.disks ? folders.diskFiles : path == folders.run ? [folders.servedImage] : []
            return [.folder(path: path, isShared: false)] + leftovers.map { .file(path: $0) }
        case .file(let path, _, _), .pipe(let path, _), .secret(let path, _, _), .seed(let path, _):
            return isKept(path) ? [] : [.file(path: path)]
        case .disk(let path, _):
            return (isKept(path) ? [] : [.file(path: path)]) + [.file(path: Step.unfinished(path))]
        case .run, .confirm, .iommuType, .bind: return []
        case .remount(let path): return [.remount(path: path)]
        // Recorded when it comes to that: a start that fails before must not unmount what another machine has mounted.
        case .mount: return []
        case .take(let state, _, _): return [.nic(state)]
        case .interfaceUp(let name): return [.interfaceUp(name: name)]
        case .tap(let name, let isMultiQueue):
            return [.tap(name: name, isMultiQueue: isMultiQueue, namespace: Facts.Network.currentNamespace)]
        case .switchFiles(let path): return [.switchFiles(path: path)]
        case .device(let path, _), .place(let path): return [.file(path: path)]
        case .links(_, _, let changes): return changes
        case .tables(let name, let families, _, _):
            return [.tables(name: name, families: families, namespace: Facts.Network.currentNamespace)]
        case .setting(let path, let value, let before, let namespace):
            return [.setting(path: path, before: before, value: value, namespace: namespace)]
        }
    }

    /// What is made at once is made here; what a program makes goes on.
    private func start(_ step: Step) throws -> (any PendingStep)? {
        switch step {
        case .folder(let path, let mode, _, let owner):
            try perform("make", path) { () throws(Errno) in
                try Files.makeFolders(path, mode: mode_t(mode))
                if let owner { try Errno.check { chown(path, owner.uid, owner.gid) } }
            }
        case .file(let path, let mode, let content):
            try perform("write", path) { () throws(Errno) in
                if isKept(path) {
                    try Files.replace(path, content.bytes, mode: mode_t(mode))
                } else {
                    try Files.create(path, content.bytes, mode: mode_t(mode))
                }
            }
        case .pipe(let path, let owner):
            try perform("make", path) { () throws(Errno) in
                try Errno.check { mkfifo(path, 0o600) }
                if let owner { try Errno.check { chown(path, owner.uid, owner.gid) } }
            }
        case .secret(let path, let source, let owner):
            try perform("copy the passphrase to", path) { () throws(Errno) in
                try Files.create(path, try Files.read(source, limit: 1 << 20), mode: 0o400)
                if let owner { try Errno.check { chown(path, owner.uid, owner.gid) } }
            }
        case .seed(let path, let command): return try PendingSeed(path, command, loop)
        case .disk(let path, let commands): return try PendingDisk(path, commands, loop)
        case .run(let command): return try PendingDisk(nil, [command], loop)
        case .remount(let path): try Mounts.makeWritable(path)
        case .mount(let path, let kind):
            let folders = Files.missingFolders(path).map { Change.folder(path: $0, isShared: true) }
            try ledger.record(folders + [.mount(path: path)])
            ledger.hold(try Mounts.mount(kind, at: path))
        case .take(let state, let driver, let mark): try state.take(from: driver, over: mark)
        case .confirm(let states): try NICState.confirm(states)
        case .iommuType(let group, let type, let address):
            try NICState.setIOMMUType(type, group: group, of: address)
        case .bind(let address, let driver, let mark):
            try NICState(address: address, mark: mark).bind(to: driver)
        case .interfaceUp(let name):
            try perform("bring up", name) { () throws(Errno) in
                try Errno.check { clinux_interface_set_up(name, 1) }
            }
        case .tap(let name, let isMultiQueue):
            try perform("make tap", name) { () throws(Errno) in
                try Errno.check { clinux_tap_make(name, isMultiQueue ? 1 : 0) }
                try Errno.check { clinux_interface_set_up(name, 1) }
            }
        case .device(let path, let numbers):
            let parts = numbers.split(separator: ":").compactMap { UInt32($0) }
            try perform("make", path) { () throws(Errno) in
                guard parts.count == 2 else { throw Errno(code: EINVAL) }
                try Errno.check { clinux_device_file(path, parts[0], parts[1]) }
            }
        case .place: break
        case .links(let lines, let program, _): try setLinks(lines, program)
        case .tables(let name, _, let text, let program):
            let job = try Job(
                Command(program: program, arguments: ["-f", "-"]), in: loop, limit: .seconds(30), kind: .network,
                input: text)
            try job.finish(.network, "make nftables' table", name)
        case .setting(let path, let value, _, _):
            try perform("write", path) { () throws(Errno) in
                try Descriptor.open(path, O_WRONLY).writeAll(Array("\(value)\n".utf8))
            }
        case .switchFiles(let path):
            try perform("make", path) { () throws(Errno) in try Files.makeFolders(path, mode: 0o700) }
        }
        return nil
    }

    /// One process for all that is to be done to the interfaces; it says which line was refused.
    private func setLinks(_ lines: [String], _ program: String) throws {
        let command = Command(program: program, arguments: ["-batch", "-"], environment: ["LC_ALL": "C"])
        let job = try Job(command, in: loop, limit: .seconds(30), kind: .network, input: lines.text)
        try loop.run { job.hasEnded }
        if job.status == .code(0) { return }
        let words = job.errors.split(separator: "\n").map(String.init)
        let number = words.first { $0.hasPrefix("Command failed -:") }.flatMap { Int($0.dropFirst(17)) }
        let line = number.flatMap { lines.indices.contains($0 - 1) ? lines[$0 - 1] : nil } ?? "the network"
        let cause = words.filter { !$0.hasPrefix("Command failed") }.joined(separator: "\n")
        throw Failure(.network, "set up the network: ip", line, Job.words(of: cause, status: job.status))
    }

    private func perform(_ operation: String, _ path: String, _ body: () throws(Errno) -> Void) throws(Failure) {
        do throws(Errno) { try body() } catch {
            throw Failure(.host, operation, path, error, remedy: error.otherPlaces)
        }
    }
}

private protocol PendingStep {
    func finish() throws
}

private final class PendingDisk: PendingStep {
    /// Where it sees how fast this processor makes keys, qemu-img fails now and then: it measures a time of zero.
    private static let mismeasured = "Unable to get accurate CPU usage"
    private static let mostRepetitions = 20

    private let path: String?
    private var rest: ArraySlice<Command>
    private var job: Job
    private let loop: EventLoop

    init(_ path: String?, _ commands: [Command], _ loop: EventLoop) throws {
        self.path = path
        self.loop = loop
        rest = commands[...]
        job = try PendingDisk.start(commands[0], loop)
    }

    /// A copy of a large image takes its time.
    private static func start(_ command: Command, _ loop: EventLoop) throws -> Job {
        try Job(command, in: loop, limit: .seconds(24 * 3600), kind: .image)
    }

    func finish() throws {
        while let command = rest.popFirst() {
            try finishJob(command)
            if let next = rest.first { job = try PendingDisk.start(next, loop) }
        }
        guard let path else { return }
        do throws(Errno) { try Errno.check { rename(Step.unfinished(path), path) } } catch {
            throw Failure(.image, "make", path, error)
        }
    }

    private func finishJob(_ command: Command) throws {
        let subject = path ?? "the disk"
        for repetition in 0... {
            do {
                try job.finish(.image, "make", subject)
                return
            } catch let failure as Failure {
                // The programs say it in words only.
                if failure.cause.contains(Errno.noSpace.description) {
                    throw Failure(.image, "make", subject, Errno.noSpace)
                }
                let isByChance = failure.cause.contains(PendingDisk.mismeasured)
                guard isByChance, repetition < PendingDisk.mostRepetitions else { throw failure }
                job = try PendingDisk.start(command, loop)
            }
        }
    }
}

/// xorriso has all of its output written within 3 ms, and then sleeps for another 100 before it ends. An ISO says in its
/// volume descriptor how long it is: when that much is there the disk is whole, and the machine need not wait.
private final class PendingSeed: PendingStep {
    private static let sizeField = 16 * 2048 + 80
    private let path: String
    private let loop: EventLoop
    private var written = 0
    private var head: [UInt8] = []
    private var job: Job!
    private let file: Descriptor

    init(_ path: String, _ command: Command, _ loop: EventLoop) throws {
        self.path = path
        self.loop = loop
        do throws(Errno) {
            file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
        } catch {
            throw Failure(.seed, "make", path, error)
        }
        job = try Job(command, in: loop, limit: .seconds(30), kind: .seed) { [self] bytes in
            if head.count < PendingSeed.sizeField + 4 { head += bytes }
            do throws(Errno) { try file.writeAll(bytes) } catch { throw Failure(.seed, "write", path, error) }
            written += bytes.count
        }
    }

    private var isWhole: Bool {
        guard head.count >= PendingSeed.sizeField + 4 else { return false }
        let blocks = (0..<4).reversed().reduce(0) { $0 << 8 | Int(head[PendingSeed.sizeField + $1]) }
        return blocks > 0 && written >= blocks * 2048
    }

    func finish() throws {
        try loop.run { isWhole || job.hasEnded }
        if isWhole { return }
        try job.finish(.seed, "make the seed disk", path)
        throw Failure(.seed, "make the seed disk", path, "xorriso ended before it was whole")
    }
}
