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

/// A random walk over all that can happen to kept disks and their images, beside a small model that says what a guest
/// must read, or that a refusal is right. SNABBVM_WALK_STEPS and SNABBVM_WALK_SEED say how far, and along which way.
@Suite(
    "A walk over disks",
    .enabled(if: WebServer.canRun && Parts.hasDemo, "python3, curl, QEMU, xorriso or the demo machine is missing"),
    .enabled(if: Parts.isRoot && Parts.has("qemu-io", "setpriv"), "there is no root, or no qemu-io or setpriv"))
struct DiskWalkTests {
    private static func setting(_ name: String) -> Int? {
        ProcessInfo.processInfo.environment[name].flatMap { Int($0) }
    }

    /// Whether file systems can be mounted from a file here.
    private static let hasLoops = Parts.has("mkfs.ext4", "losetup") && (try? run("losetup", ["-f"]).code) == 0

    @Test(.enabled(if: hasLoops, "no file system can be mounted from a file here"))
    func noByteIsWrongAndNoneIsLost() throws {
        let seed = DiskWalkTests.setting("SNABBVM_WALK_SEED") ?? Int.random(in: 0..<1 << 32)
        let steps = DiskWalkTests.setting("SNABBVM_WALK_STEPS") ?? 200
        let walk = try MountNamespace.run {
            var walk = try DiskWalk(seed: UInt64(seed))
            defer { walk.end() }
            for _ in 0..<steps where walk.problems.isEmpty { try walk.step() }
            return walk
        }
        if let problem = walk.problems.first {
            Issue.record(
                "SNABBVM_WALK_SEED=\(seed), step \(walk.history.count): \(problem)\n\(walk.history.suffix(30).joined(separator: "\n"))"
            )
        }
        print("A walk over disks, seed \(seed): \(walk.table)")
        // What was never tried was not shown; the rarer steps may be missing on a way that is short.
        if steps >= 200, walk.problems.isEmpty {
            for what in [DiskWalk.Event.started, .killed, .full, .removed, .changed] {
                #expect(walk.counts[what, default: 0] > 0, "\(what)")
            }
        }
    }
}

/// A thread whose mounts, and those of all that it starts, are its own and go with it. One thread waits for the other.
private final class MountNamespace<Value>: @unchecked Sendable {
    private let work: () throws -> Value
    private let done = DispatchSemaphore(value: 0)
    private var result: Result<Value, any Error>?

    private init(_ work: @escaping () throws -> Value) { self.work = work }

    static func run(_ work: @escaping () throws -> Value) throws -> Value {
        let namespace = MountNamespace(work)
        let thread = Thread { namespace.main() }
        thread.stackSize = 8 << 20
        thread.start()
        namespace.done.wait()
        guard let result = namespace.result else { throw Failure(.unexpected, "walk", "disks", "nothing came of it") }
        return try result.get()
    }

    private func main() {
        result = Result {
            // Neither of them is what Swift sees of the C library.
            let unshare = unsafeBitCast(dlsym(nil, "unshare"), to: (@convention(c) (Int32) -> Int32).self)
            let newMounts: Int32 = 0x20000
            if unshare(newMounts) != 0 { throw Errno(code: errno) }
            try Medium.command("mount", "--make-rprivate", "/")
            return try work()
        }
        done.signal()
    }
}

/// A file system in a file in memory. What stands in the file is what a disk has after a power cut: no more than was
/// synced, or what the kernel has written of its own accord.
private struct Medium {
    let mountPoint: String
    private let folder: String
    private var generation = 0
    private var file: String { "\(folder)/\(generation)" }

    init(_ name: String, mebibytes: Int, in scratch: Scratch) throws {
        folder = scratch.folder("\(name).medium")
        mountPoint = scratch.folder(name)
        try Medium.command("mount", "-t", "tmpfs", "-o", "mode=700", "none", folder)
        try Medium.command("truncate", "-s", "\(mebibytes)M", file)
        try Medium.command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", file)
        try mount()
    }

    /// The journal is not written by the clock, which may come between two reads of the file.
    private func mount() throws { try Medium.command("mount", "-o", "loop,commit=3600", file, mountPoint) }

    /// What is on the disk now; what is only in memory is not. Nobody writes meanwhile.
    mutating func freeze() throws {
        try Medium.command("cp", "--sparse=always", file, "\(folder)/\(generation + 1)")
    }

    /// What was frozen is what there is from now on.
    mutating func restart() throws {
        try unmount()
        unlink(file)
        generation += 1
        try mount()
    }

    private func unmount() throws {
        // A process that was killed may still be on its way out.
        guard eventually({ (try? run("umount", [mountPoint]).code) == 0 }) else {
            throw Failure(.unexpected, "unmount", mountPoint, "it is in use")
        }
    }

    func end() {
        _ = try? unmount()
        _ = try? run("umount", [folder])
    }

    static func command(_ words: String...) throws {
        let outcome = try run(words[0], Array(words.dropFirst()))
        if outcome.code != 0 { throw Failure(.host, words[0], words[words.count - 1], outcome.errors.trimmed) }
    }
}

/// The walk, and what is known by who goes along.
private struct DiskWalk {
    enum Event: String, CaseIterable {
        case started, refused, together, killed, power, full, pulled, removed, verified, changed, absent, flattened,
            rebased, looked
    }

    /// A machine's disk as its guest must see it.
    private struct Machine {
        let number: Int
        var url: String
        var secret: Bool
        /// What it was made on, by the digest of the disk in it; nil once it stands by itself.
        var base: String?
        /// nil until the first start that went well.
        var content: Data?
    }

    private let scratch = Scratch()
    private let server: WebServer
    private var cacheMedium: Medium
    private var stateMedium: Medium
    private let secret: String
    private var random: RandomBytes
    private var machines: [Machine] = []
    /// Every content that the server ever had, by its digest.
    private var versions: [String: Data] = [:]
    /// What it has now; nil where it answers 404.
    private var current: String?
    private var isFull = false
    private var boots = 0
    /// The machine that is up while the others do something.
    private var running: Int?
    private(set) var history: [String] = []
    private(set) var problems: [String] = []
    private(set) var counts: [Event: Int] = [:]
    private var refusals: [String: Int] = [:]

    private static let name = "disk.img"
    private static let encryptedName = "encrypted.qcow2"
    private static let size = 2 << 20
    private static let grain = 65536

    init(seed: UInt64) throws {
        random = RandomBytes(seed: seed)
        server = try WebServer(scratch.folder("www"))
        cacheMedium = try Medium("cache", mebibytes: 96, in: scratch)
        stateMedium = try Medium("states", mebibytes: 128, in: scratch)
        secret = scratch.file("secret", "correct horse")
        try boot()
        try change()
        try makeEncrypted()
        for number in 0..<3 { machines.append(Machine(number: number, url: url(number), secret: number == 2)) }
    }

    /// What a process on its way out still holds is let go first.
    func end() {
        cacheMedium.end()
        stateMedium.end()
        _ = try? run("umount", [DiskWalk.bootFile])
    }

    private static let bootFile = "/proc/sys/kernel/random/boot_id"

    /// Whoever asks from now on is told of another boot.
    private mutating func boot() throws {
        boots += 1
        let file = scratch.file("boot\(boots)", "00000000-0000-4000-8000-\(100_000_000_000 + boots)\n")
        try Medium.command("mount", "--bind", file, DiskWalk.bootFile)
    }

    private var cachePath: String { cacheMedium.mountPoint }

    private func url(_ number: Int) -> String { server.url(number == 2 ? DiskWalk.encryptedName : DiskWalk.name) }

    var table: String {
        let events = Event.allCases.map { "\($0.rawValue) \(counts[$0, default: 0])" }.joined(separator: ", ")
        let reasons = refusals.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        return
            "\(history.count) steps (\(events)); refusals by reason: \(reasons); wrong bytes 0, lost \(problems.count)"
    }

    private mutating func tell(_ event: Event, _ words: String) {
        counts[event, default: 0] += 1
        history.append("\(event.rawValue): \(words)")
    }

    // MARK: - Steps

    mutating func step() throws {
        // An encrypted disk takes its seconds each time that it is opened.
        let machine = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2][random.next(10)]
        switch random.next(31) {
        case 0..<9: try start(machine)
        case 28...: try startTogether(machine)
        case 9..<11: try killedStart(machine)
        case 11: try powerCut()
        case 12..<14: try fillOrFree()
        case 14: try pull()
        case 15..<19: try remove()
        case 19: try verify()
        case 20..<23: try changeOnServer()
        case 23: try flatten(machine)
        case 24: try rebase(machine)
        case 25: try look(machine)
        default: try give(machine)
        }
    }

    // MARK: - Starting

    private func state(_ machine: Machine) -> String { "\(stateMedium.mountPoint)/\(machine.number)" }

    private func words(_ machine: Machine, options: [String]) -> [String] {
        ["--state", state(machine), "--cache", cachePath, "--qemu", "\(Parts.folder)/Tests/disks/qemu"]
            + ["--qemu-user", "root", "--attempts", "1", "--sleep", "0", "--tick", "0"]
            + (machine.secret ? ["--secret-file", secret] : []) + options
    }

    /// A launcher at work, with all that its guest must read.
    private struct Start {
        let index: Int
        let launcher: TestMachine
        /// Where its guest tells what it has read.
        let folder: String
        let what: String
        let possible: Set<String>
        let size: Int?
        let writes: [(Int, Int, UInt8)]
        var isHeld = false
    }

    private mutating func begin(_ index: Int, isHeld: Bool = false) throws -> Start {
        let machine = machines[index]
        var options: [String] = []
        let givesImage = machine.content == nil || random.next(2) == 0
        if random.next(4) == 0, !machine.secret { options.append("--lazy") }
        var size = machine.content?.count
        if random.next(4) == 0, let now = size, now < 16 << 20 {
            size = now + (1 << 20)
            options += ["--disk-size", "\((size ?? 0) >> 20)"]
        }
        if givesImage { options.append(machine.url) }
        let folder = scratch.folder("walk\(index)")
        for name in Files.names(folder) { unlink("\(folder)/\(name)") }
        let writes = try putWrites(within: machine.content?.count ?? DiskWalk.size, folder)
        if isHeld { _ = scratch.file("walk\(index)/HOLD", "") }
        let possible = try versions(for: machine, givesImage: givesImage)
        return Start(
            index: index, launcher: try launch(machine, options: options), folder: folder,
            what: "machine \(index) \(options.joined(separator: " "))", possible: possible, size: size, writes: writes,
            isHeld: isHeld)
    }

    private func launch(_ machine: Machine, options: [String], name: String? = nil) throws -> TestMachine {
        try TestMachine(
            words(machine, options: options), in: scratch, name: name ?? "walk\(machine.number)",
            wrapper: ["env", "DISK_WALK=\(scratch.path)/walk\(machine.number)"])
    }

    private mutating func start(_ index: Int) throws { try finish(try begin(index)) }

    private mutating func finish(_ start: Start) throws {
        let code = start.launcher.code()
        let line = start.launcher.errors.split(separator: "\n").last { $0.contains("cannot") }.map(String.init) ?? ""
        let what = "\(start.what): \(code) \(line)"
        guard access("\(start.folder)/DONE", F_OK) == 0 else {
            tell(.refused, what)
            let reason = FailureKind(rawValue: code).map { "\($0)" } ?? "\(code)"
            refusals[reason, default: 0] += 1
            return try judge(refusal: code, line, of: machines[start.index], start.possible)
        }
        try take(start, what)
    }

    /// Its guest has read all and has written: what it has read was right, and what it has written stays.
    private mutating func take(_ start: Start, _ what: String) throws {
        tell(.started, what)
        var machine = machines[start.index]
        let dump = try Data(contentsOf: URL(fileURLWithPath: "\(start.folder)/DUMP"))
        if let content = machine.content {
            let expected = content + Data(count: max(0, (start.size ?? 0) - content.count))
            compare(dump, expected, what)
            machine.content = expected
            if let base = machine.base, !start.possible.contains(base) {
                problems.append("machine \(start.index) started on an image that is nowhere: \(what)")
            }
        } else {
            guard let base = versions.first(where: { $0.value == dump }) else {
                let nearest = versions.values.map { zip($0, dump).count { $0 != $1 } }.min() ?? 0
                return problems.append(
                    "machine \(start.index) was made on what no server ever had, by \(nearest) of \(dump.count) bytes: \(what)"
                )
            }
            machine.base = base.key
            machine.content = dump
        }
        for (offset, length, byte) in start.writes {
            machine.content?.replaceSubrange(offset..<offset + length, with: repeatElement(byte, count: length))
        }
        machines[start.index] = machine
    }

    private mutating func compare(_ dump: Data, _ expected: Data, _ what: String) {
        if dump == expected { return }
        let first = zip(dump, expected).enumerated().first { $0.element.0 != $0.element.1 }?.offset
        problems.append(
            "\(dump.count) bytes are read, not \(expected.count), or others from \(first ?? -1) on: \(what)")
    }

    /// While one machine runs, and has read and written, anything happens; it reads what it must until its end.
    private mutating func startTogether(_ index: Int) throws {
        let start = try begin(index, isHeld: true)
        guard eventually({ access("\(start.folder)/DONE", F_OK) == 0 || !start.launcher.isRunning }),
            start.launcher.isRunning
        else { return try finish(start) }
        try take(start, "\(start.what), held")
        tell(.together, "with machine \(index)")
        running = index
        defer { running = nil }
        let other = (index + 1 + random.next(2)) % 3
        switch random.next(10) {
        case 0..<3: try self.start(other)
        case 3: try startTwice(index)
        case 4: try pull()
        case 5: try remove()
        case 6: try verify()
        case 7: try changeOnServer()
        case 8: try fillOrFree()
        default: return try powerCut([start.launcher])
        }
        _ = scratch.file("walk\(index)/GO", "")
        // The stand-in does not say on QMP that its guest has ended.
        let code = start.launcher.code()
        guard access("\(start.folder)/ENDED", F_OK) == 0 else {
            return problems.append("machine \(index) did not end well: \(code) \(start.launcher.errors.suffix(500))")
        }
        let dump = try Data(contentsOf: URL(fileURLWithPath: "\(start.folder)/AGAIN"))
        compare(dump, machines[index].content ?? Data(), "the end of machine \(index)")
    }

    /// Nobody else gets a running machine's disk, by whatever name.
    private mutating func startTwice(_ index: Int) throws {
        let name = random.next(2) == 0 ? "walk\(index)" : "another"
        let launcher = try launch(machines[index], options: [], name: name)
        let code = launcher.code()
        tell(.refused, "\(name) on the disk of machine \(index): \(code)")
        refusals["busy", default: 0] += 1
        if code != FailureKind.busy.rawValue { problems.append("a second start: \(code) \(launcher.errors)") }
    }

    private mutating func putWrites(within size: Int, _ folder: String) throws -> [(Int, Int, UInt8)] {
        let writes = (0..<random.next(4)).map { _ in
            (random.next(size / DiskWalk.grain) * DiskWalk.grain, DiskWalk.grain, UInt8(random.next(256)))
        }
        let text = writes.map { "\($0.0) \($0.1) \($0.2)\n" }.joined()
        try Files.create("\(folder)/WRITES", Array(text.utf8), mode: 0o644)
        return writes
    }

    /// The versions that a start could find: sound in the cache, or on the server where it may ask.
    private func versions(for machine: Machine, givesImage: Bool) throws -> Set<String> {
        var found = try soundEntries(of: machine)
        if givesImage, let current, !machine.secret { found.insert(current) }
        if givesImage, machine.secret { found.insert(encryptedVersion) }
        return found
    }

    private var encryptedVersion: String { "encrypted" }

    private func soundEntries(of machine: Machine) throws -> Set<String> {
        let entries = ImageCache(folder: cachePath).entries.filter { $0.isTrusted && $0.record.source == machine.url }
        return Set(
            try entries.compactMap { entry in
                if machine.secret { return encryptedVersion }
                let digest = try digest(of: entry.path)
                return versions[digest] == nil ? nil : digest
            })
    }

    /// A refusal is right where what the disk stands on can't be had, or there is no room.
    private mutating func judge(refusal code: Int32, _ line: String, of machine: Machine, _ possible: Set<String>)
        throws
    {
        let words = "machine \(machine.number) was refused: \(code) \(line)"
        guard !line.isEmpty, let kind = FailureKind(rawValue: code) else {
            return problems.append("without a word: \(words)")
        }
        switch kind {
        case .noSpace where isFull: return
        // A killed start has made a disk, whose image may be gone by now.
        case .image where machine.content == nil && access("\(state(machine))/disk.img", F_OK) == 0: return
        // Of a machine that booted lazily and ended early only its server's word is known, and that has changed.
        case .image where line.contains("was changed on its server") && isKnownByItsServerAlone(machine): return
        case .image, .fetch:
            // Its image is nowhere, or, without a disk yet, no image at all is to be had.
            let isThere = machine.base.map { possible.contains($0) } ?? !possible.isEmpty
            if isThere, !isFull { problems.append("though its image is there: \(words)") }
        default: problems.append("for no reason: \(words)")
        }
    }

    private func isKnownByItsServerAlone(_ machine: Machine) -> Bool {
        let record = FileTree().text("\(state(machine))/machine.json").flatMap { try? JSON(parsing: $0) }
        let digests = ["digest", "content"].compactMap { record?["image"]?[$0]?.string }
        return record?["image"]?["version"]?.string != nil && digests.isEmpty
    }

    /// One of the launcher's processes is killed at a random moment, or the power goes, and nothing is written to the disk.
    private mutating func killedStart(_ index: Int) throws {
        let machine = machines[index]
        let folder = scratch.folder("walk\(index)")
        for name in Files.names(folder) { unlink("\(folder)/\(name)") }
        try server.put(DiskWalk.name, ["rate": .integer(Int64(1 + random.next(20)) << 18)])
        defer { try? server.put(DiskWalk.name, [:]) }
        let options = (random.next(2) == 0 ? ["--lazy"] : []) + [machine.url]
        let launcher = try launch(machine, options: options)
        usleep(UInt32(random.next(600)) * 1000)
        if random.next(3) == 0 { return try powerCut([launcher]) }
        // Itself, or whatever it has started: the fetch, its digest, qemu-img, xorriso, QEMU.
        let victims = [launcher.pid] + descendants(of: launcher.pid)
        let victim = random.next(2) == 0 ? launcher.pid : victims[random.next(victims.count)]
        let name = FileTree().line("/proc/\(victim)/comm") ?? "what has ended by itself"
        kill(victim, SIGKILL)
        let code = launcher.code()
        tell(.killed, "\(name) of machine \(index) \(options.joined(separator: " ")): \(code)")
        try release(launcher)
    }

    /// What is left of a killed launcher goes with the next start, or by this.
    private mutating func release(_ launcher: TestMachine) throws {
        let release = try launcher.ask("release")
        if release.code != 0 { problems.append("release: \(release)") }
    }

    private func descendants(of pid: Int32) -> [Int32] {
        let tasks = FileTree().line("/proc/\(pid)/task/\(pid)/children") ?? ""
        let children = tasks.split(separator: " ").compactMap { Int32($0) }
        return children + children.flatMap(descendants)
    }

    // MARK: - Faults

    /// All that runs is gone, and whatever was not synced; of images that the program does not know to be on the disk
    /// a block is lost besides, as disks write in any order.
    private mutating func powerCut(_ launchers: [TestMachine] = []) throws {
        let synced = ImageCache(folder: cachePath).entries.filter { $0.record.boot == nil }
        let digests = try synced.map { try digest(of: $0.path) }
        for launcher in launchers {
            // The launcher first: it starts what has ended again.
            for pid in [launcher.pid] + descendants(of: launcher.pid) { kill(pid, SIGKILL) }
            _ = launcher.code()
        }
        try cacheMedium.freeze()
        try stateMedium.freeze()
        for launcher in launchers { try release(launcher) }
        try cacheMedium.restart()
        try stateMedium.restart()
        try boot()
        isFull = access("\(cachePath)/ballast", F_OK) == 0
        for (entry, before) in zip(synced, digests) {
            let after = access(entry.path, F_OK) == 0 ? try digest(of: entry.path) : "nothing"
            if after != before { problems.append("\(entry.stem) was said to be synced, and is \(after)") }
        }
        var damaged = 0
        for entry in ImageCache(folder: cachePath).entries where entry.record.boot != nil {
            try damage(entry.path)
            damaged += 1
        }
        for name in Files.names(cachePath) where name.hasSuffix(".part") {
            try damage("\(cachePath)/\(name)")
            damaged += 1
        }
        tell(.power, "with \(launchers.count) at work; \(synced.count) images stay, \(damaged) are damaged")
    }

    private mutating func damage(_ path: String) throws {
        let size = Int(try Files.status(path).st_size)
        if size < 8192 { return }
        let file = try Descriptor.open(path, O_WRONLY)
        let place = UInt64(random.next(size / 4096 - 1)) * 4096
        try [UInt8](repeating: 0, count: 4096).withUnsafeBytes { try file.write($0, at: place) }
    }

    private mutating func fillOrFree() throws {
        let ballast = "\(cachePath)/ballast"
        if isFull {
            unlink(ballast)
        } else {
            let left = 1 + random.next(2)
            let free = Int(Files.freeSpace(cachePath)?.bytes ?? 0) >> 20
            _ = try run("dd", ["if=/dev/zero", "of=\(ballast)", "bs=1M", "count=\(max(0, free - left))", "conv=fsync"])
        }
        isFull.toggle()
        tell(.full, isFull ? "no room" : "room again")
    }

    // MARK: - Images

    private func images(_ words: String...) throws -> Outcome {
        try run(Parts.snabbvm, ["images", words[0], "--cache", cachePath] + words.dropFirst())
    }

    private mutating func pull() throws {
        let outcome = try images("pull", "--attempts", "1", server.url(DiskWalk.name))
        tell(.pulled, "\(outcome.code) \(outcome.errors.suffix(200))")
        if outcome.code == 0 {
            let path = outcome.output.trimmed
            let found = try digest(of: path)
            let isRight = current == nil ? versions[found] != nil : found == current
            if !isRight { problems.append("pulled what its server has not: \(path)") }
        } else if current != nil, !isFull {
            problems.append("not pulled: \(outcome)")
        }
    }

    private mutating func remove() throws {
        let entries = ImageCache(folder: cachePath).entries
        guard !entries.isEmpty else { return tell(.removed, "nothing") }
        let entry = entries[random.next(entries.count)]
        let isForced = random.next(2) == 0
        let found = try digest(of: entry.path)
        let isNeeded = machines.contains { machine in
            if machine.url != entry.record.source { return false }
            // A killed start has made a disk that nobody has seen yet.
            guard let base = machine.base, machine.content != nil else {
                return machine.content == nil && access("\(state(machine))/disk.img", F_OK) == 0
            }
            // What a crash may have damaged says still what it was.
            return machine.secret || found == base || !entry.isTrusted
        }
        let outcome = isForced ? try images("rm", "--force", entry.stem) : try images("rm", entry.stem)
        tell(.removed, "\(entry.stem)\(isForced ? " by force" : ""): \(outcome.code)")
        let isBusy = outcome.code == FailureKind.busy.rawValue
        if outcome.code != 0, !isBusy || isForced && running == nil { problems.append("not removed: \(outcome)") }
        // Without force nobody loses what a disk stands on, and nobody is told so for nothing.
        if !isForced, isBusy, !isNeeded { problems.append("nothing stands on \(entry.stem): \(outcome.errors)") }
        if !isForced, !isBusy, isNeeded, machines.contains(where: { $0.content != nil && $0.base == found }) {
            problems.append("a disk stood on \(entry.stem): \(outcome)")
        }
    }

    private mutating func verify() throws {
        let outcome = try images("verify", "--json")
        tell(.verified, "\(outcome.code)")
        for result in (try? JSON(parsing: outcome.output))?.array ?? [] {
            let name = result["name"]?.string ?? ""
            guard let entry = ImageCache(folder: cachePath).entries.first(where: { $0.stem == name }) else { continue }
            let isSound = entry.record.source == url(2) ? nil : versions[try digest(of: entry.path)] != nil
            if let isSound, isSound != (result["right"]?.bool ?? false), entry.record.digest != nil {
                problems.append("verify says \(result.text) of an image that is \(isSound ? "sound" : "damaged")")
            }
        }
    }

    // MARK: - The server

    private mutating func change() throws {
        let disk = try server.serve(DiskWalk.name, mebibytes: DiskWalk.size >> 20)
        versions[disk.digest] = try Data(contentsOf: URL(fileURLWithPath: disk.path))
        current = disk.digest
    }

    private mutating func makeEncrypted() throws {
        let raw = try server.serve("plain.img", mebibytes: DiskWalk.size >> 20)
        versions[encryptedVersion] = try Data(contentsOf: URL(fileURLWithPath: raw.path))
        let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
        let words = ["convert", "-O", "qcow2", "--object", "secret,id=s,file=\(secret)", "-o", options, raw.path]
        let path = "\(server.root)/\(DiskWalk.encryptedName)"
        guard try (0..<20).contains(where: { _ in try run("qemu-img", words + [path]).code == 0 }) else {
            throw Failure(.unexpected, "make", path, "qemu-img fails")
        }
    }

    private mutating func changeOnServer() throws {
        let path = "\(server.root)/\(DiskWalk.name)"
        let way = random.next(5)
        switch way {
        case 0: try change()
        case 1: utimes(path, nil)
        case 2:
            // An old version comes back.
            let known = versions.keys.filter { $0 != encryptedVersion }.sorted()
            let old = known[random.next(known.count)]
            try versions[old]?.write(to: URL(fileURLWithPath: path))
            current = old
        case 3 where current != nil:
            // In place: whoever is at it reads both.
            let disk = try run(
                "bash",
                ["-ec", "head -c 65536 /dev/urandom | dd of='\(path)' bs=65536 seek=3 conv=notrunc status=none"])
            if disk.code != 0 { throw Failure(.unexpected, "change", path, disk.errors) }
            let now = try digest(of: path)
            versions[now] = try Data(contentsOf: URL(fileURLWithPath: path))
            current = now
        default:
            unlink(path)
            current = nil
        }
        tell(current == nil ? .absent : .changed, "way \(way), now \(current?.prefix(8) ?? "nothing")")
    }

    // MARK: - The disk's own command

    private func disk(_ verb: String, _ machine: Machine, _ words: [String] = []) throws -> Outcome {
        let secretWords = machine.secret ? ["--secret-file", secret] : []
        return try run(
            Parts.snabbvm, ["disk", verb, "--state", state(machine), "--cache", cachePath] + secretWords + words)
    }

    private mutating func flatten(_ index: Int) throws {
        let machine = machines[index]
        guard machine.content != nil, machine.base != nil else { return try start(index) }
        let possible = try soundEntries(of: machine)
        let outcome = try disk("flatten", machine)
        tell(.flattened, "machine \(index): \(outcome.code) \(outcome.errors)")
        let isThere = machine.base.map { possible.contains($0) } ?? false || machine.secret && !possible.isEmpty
        if outcome.code == 0 {
            machines[index].base = nil
        } else if isThere {
            problems.append("not flattened: \(outcome)")
        }
    }

    private mutating func rebase(_ index: Int) throws {
        let machine = machines[index]
        guard machine.content != nil, machine.base != nil else { return try start(index) }
        let possible = try versions(for: machine, givesImage: true)
        let outcome = try disk("rebase", machine, ["--attempts", "1", machine.url])
        tell(.rebased, "machine \(index): \(outcome.code) \(outcome.errors)")
        let isThere = machine.secret || machine.base.map { possible.contains($0) } ?? false
        if outcome.code != 0, isThere, !isFull { problems.append("not rebased: \(outcome)") }
    }

    private mutating func look(_ index: Int) throws {
        let machine = machines[index]
        guard machine.content != nil else { return try start(index) }
        let possible = try soundEntries(of: machine)
        let isThere = machine.base.map { possible.contains($0) } ?? true || machine.secret && !possible.isEmpty
        let told = try JSON(parsing: try disk("info", machine, ["--json"]).output)
        if (told["problem"] == .null) != isThere { problems.append("info says \(told.text)") }
        let checked = try disk("check", machine)
        tell(.looked, "machine \(index): \(checked.code) \(checked.errors)")
        if (checked.code == 0) != isThere {
            problems.append(
                "check says \(checked), and it is \(isThere ? "" : "not ")there, by \(FileTree().text("\(state(machine))/machine.json") ?? "nothing")"
            )
        }
    }

    private mutating func give(_ index: Int) throws {
        try? FileManager.default.removeItem(atPath: state(machines[index]))
        // Or it may come back after a power cut.
        try Medium.command("sync", "-f", stateMedium.mountPoint)
        machines[index].base = nil
        machines[index].content = nil
        tell(.started, "machine \(index) is given up")
    }
}
