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
    .enabled(if: Parts.isRoot && Parts.has("qemu-io"), "there is no root, or no qemu-io"))
struct DiskWalkTests {
    private static func setting(_ name: String) -> Int? {
        ProcessInfo.processInfo.environment[name].flatMap { Int($0) }
    }

    @Test func noByteIsWrongAndNoneIsLost() throws {
        let seed = DiskWalkTests.setting("SNABBVM_WALK_SEED") ?? Int.random(in: 0..<1 << 32)
        let steps = DiskWalkTests.setting("SNABBVM_WALK_STEPS") ?? 200
        var walk = try DiskWalk(seed: UInt64(seed))
        for step in 0..<steps {
            let before = walk.problems.count
            try walk.step()
            if walk.problems.count == before { continue }
            Issue.record(
                "SNABBVM_WALK_SEED=\(seed), step \(step): \(walk.problems.last ?? "")\n\(walk.history.suffix(12).joined(separator: "\n"))"
            )
            break
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

/// The walk, and what is known by who goes along.
private struct DiskWalk {
    enum Event: String, CaseIterable {
        case started, refused, killed, power, full, pulled, removed, verified, changed, absent, flattened, rebased,
            looked
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
    private let cachePath: String
    private let walkFolder: String
    private let secret: String
    private var random: RandomBytes
    private var machines: [Machine] = []
    /// Every content that the server ever had, by its digest.
    private var versions: [String: Data] = [:]
    /// What it has now; nil where it answers 404.
    private var current: String?
    private var isFull = false
    private(set) var history: [String] = []
    private(set) var problems: [String] = []
    private(set) var counts: [Event: Int] = [:]
    private var refusals: [String: Int] = [:]

    private static let name = "disk.img"
    private static let encryptedName = "encrypted.qcow2"
    private static let size = 2 << 20
    private static let grain = 65536
    private static let room = 96

    init(seed: UInt64) throws {
        random = RandomBytes(seed: seed)
        server = try WebServer(scratch.folder("www"))
        cachePath = scratch.folder("cache")
        walkFolder = scratch.folder("walk")
        secret = scratch.file("secret", "correct horse")
        let words = ["-t", "tmpfs", "-o", "size=\(DiskWalk.room)M,mode=700", "none", cachePath]
        guard try run("mount", words).code == 0 else { throw Failure(.host, "mount", cachePath, "a tmpfs is refused") }
        try change()
        try makeEncrypted()
        for number in 0..<3 { machines.append(Machine(number: number, url: url(number), secret: number == 2)) }
    }

    /// What is mounted goes with the walk.
    private final class Unmount {
        let path: String
        init(_ path: String) { self.path = path }
        deinit { _ = try? run("umount", ["-l", path]) }
    }
    private lazy var unmount = Unmount(cachePath)

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
        _ = unmount
        // An encrypted disk takes its seconds each time that it is opened.
        let machine = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2][random.next(10)]
        switch random.next(28) {
        case 0..<9: try start(machine)
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

    private func state(_ machine: Machine) -> String { "\(scratch.path)/state\(machine.number)" }

    private func words(_ machine: Machine, options: [String]) -> [String] {
        ["--state", state(machine), "--cache", cachePath, "--qemu", "\(Parts.folder)/Tests/disks/qemu"]
            + ["--qemu-user", "root", "--attempts", "1", "--sleep", "0", "--tick", "0"]
            + (machine.secret ? ["--secret-file", secret] : []) + options
    }

    private mutating func start(_ index: Int) throws {
        var machine = machines[index]
        let isNew = machine.content == nil
        var options: [String] = []
        let givesImage = isNew || random.next(2) == 0
        if random.next(4) == 0, !machine.secret { options.append("--lazy") }
        var size = machine.content?.count
        if random.next(4) == 0, let now = size, now < 16 << 20 {
            size = now + (1 << 20)
            options += ["--disk-size", "\((size ?? 0) >> 20)"]
        }
        if givesImage { options.append(machine.url) }
        let wanted = machine.base
        let possible = try versions(for: machine, givesImage: givesImage)
        let writes = try putWrites(within: machine.content?.count ?? DiskWalk.size)
        let launcher = try TestMachine(
            words(machine, options: options), in: scratch, wrapper: ["env", "DISK_WALK=\(walkFolder)"])
        let code = launcher.code()
        let line = launcher.errors.split(separator: "\n").last { $0.contains("cannot") }.map(String.init) ?? ""
        let what = "machine \(index) \(options.joined(separator: " ")): \(code) \(line)"
        guard access("\(walkFolder)/DONE", F_OK) == 0 else {
            tell(.refused, what)
            let reason = FailureKind(rawValue: code).map { "\($0)" } ?? "\(code)"
            refusals[reason, default: 0] += 1
            try judge(refusal: code, line, of: machine, possible)
            return
        }
        tell(.started, what)
        let dump = try Data(contentsOf: URL(fileURLWithPath: "\(walkFolder)/DUMP"))
        if isNew {
            guard let base = versions.first(where: { $0.value == dump }) else {
                return problems.append("machine \(index) was made on what no server ever had: \(what)")
            }
            machine.base = base.key
            machine.content = dump
        } else if let content = machine.content {
            let expected = content + Data(count: max(0, (size ?? 0) - content.count))
            if dump != expected {
                let first = zip(dump, expected).enumerated().first { $0.element.0 != $0.element.1 }?.offset
                return problems.append(
                    "machine \(index) reads \(dump.count) bytes, not \(expected.count), or others from \(first ?? -1) on: \(what)"
                )
            }
            machine.content = expected
        }
        if !isNew, machine.base != nil, let wanted, !possible.contains(wanted) {
            problems.append("machine \(index) started on an image that is nowhere: \(what)")
        }
        for (offset, length, byte) in writes {
            machine.content?.replaceSubrange(offset..<offset + length, with: repeatElement(byte, count: length))
        }
        machines[index] = machine
    }

    private mutating func putWrites(within size: Int) throws -> [(Int, Int, UInt8)] {
        for name in ["DUMP", "WRITES", "DONE"] { unlink("\(walkFolder)/\(name)") }
        let writes = (0..<random.next(4)).map { _ in
            (random.next(size / DiskWalk.grain) * DiskWalk.grain, DiskWalk.grain, UInt8(random.next(256)))
        }
        let text = writes.map { "\($0.0) \($0.1) \($0.2)\n" }.joined()
        try Files.create("\(walkFolder)/WRITES", Array(text.utf8), mode: 0o644)
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
        case .image, .fetch:
            // Its image is nowhere, or, without a disk yet, no image at all is to be had.
            let isThere = machine.base.map { possible.contains($0) } ?? !possible.isEmpty
            if isThere, !isFull { problems.append("though its image is there: \(words)") }
        default: problems.append("for no reason: \(words)")
        }
    }

    /// One of the launcher's processes is killed at a random moment, and nothing is written to the disk.
    private mutating func killedStart(_ index: Int) throws {
        let machine = machines[index]
        for name in ["DUMP", "WRITES", "DONE"] { unlink("\(walkFolder)/\(name)") }
        try server.put(DiskWalk.name, ["rate": .integer(Int64(1 + random.next(20)) << 18)])
        defer { try? server.put(DiskWalk.name, [:]) }
        let options = (random.next(2) == 0 ? ["--lazy"] : []) + [machine.url]
        let launcher = try TestMachine(
            words(machine, options: options), in: scratch, wrapper: ["env", "DISK_WALK=\(walkFolder)"])
        usleep(UInt32(random.next(600)) * 1000)
        // Itself, or whatever it has started: the fetch, its digest, qemu-img, xorriso, QEMU.
        let victims = [launcher.pid] + descendants(of: launcher.pid)
        let victim = random.next(2) == 0 ? launcher.pid : victims[random.next(victims.count)]
        let name = FileTree().line("/proc/\(victim)/comm") ?? "what has ended by itself"
        kill(victim, SIGKILL)
        let code = launcher.code()
        tell(.killed, "\(name) of machine \(index) \(options.joined(separator: " ")): \(code)")
        // What is left of a killed launcher goes with the next start, or by this.
        let release = try run(Parts.snabbvm, ["release", "--name", "test", "--run-dir", "\(scratch.path)/run"])
        if release.code != 0 { problems.append("release: \(release)") }
    }

    private func descendants(of pid: Int32) -> [Int32] {
        let tasks = FileTree().line("/proc/\(pid)/task/\(pid)/children") ?? ""
        let children = tasks.split(separator: " ").compactMap { Int32($0) }
        return children + children.flatMap(descendants)
    }

    // MARK: - Faults

    /// All that the program does not know to be on the disk is damaged, as a power cut may leave it.
    private mutating func powerCut() throws {
        var damaged = 0
        for entry in ImageCache(folder: cachePath).entries where entry.record.boot != nil {
            try damage(entry.path)
            damaged += 1
            try setBoot("\(entry.path.dropLast(ImageCache.diskSuffix.count)).json")
        }
        for name in Files.names(cachePath) where name.hasSuffix(".part") {
            try damage("\(cachePath)/\(name)")
            damaged += 1
            try setBoot("\(cachePath)/\(name).json")
        }
        tell(.power, "\(damaged) files damaged")
    }

    private mutating func damage(_ path: String) throws {
        let size = Int(try Files.status(path).st_size)
        if size < 8192 { return }
        let file = try Descriptor.open(path, O_WRONLY)
        let place = UInt64(random.next(size / 4096 - 1)) * 4096
        try [UInt8](repeating: 0, count: 4096).withUnsafeBytes { try file.write($0, at: place) }
    }

    private func setBoot(_ record: String) throws {
        guard var fields = (try? JSON(parsing: try Files.read(record, limit: 1 << 22)))?.object else { return }
        fields["boot"] = "another"
        try Files.replace(record, Array(JSON.object(fields).text.utf8), mode: 0o600)
    }

    private mutating func fillOrFree() throws {
        let ballast = "\(cachePath)/ballast"
        if isFull {
            unlink(ballast)
        } else {
            let left = 1 + random.next(2)
            let free = Int(Files.freeSpace(cachePath)?.bytes ?? 0) >> 20
            _ = try run("dd", ["if=/dev/zero", "of=\(ballast)", "bs=1M", "count=\(max(0, free - left))"])
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
        let outcome = isForced ? try images("rm", "--force", entry.stem) : try images("rm", entry.stem)
        tell(.removed, "\(entry.stem)\(isForced ? " by force" : ""): \(outcome.code)")
        if isForced, outcome.code != 0 { problems.append("not removed: \(outcome)") }
        // Without force nobody loses what a disk stands on.
        let isNeeded = try machines.contains { machine in
            if machine.url != entry.record.source { return false }
            // A killed start has made a disk that nobody has seen yet.
            guard let base = machine.base, machine.content != nil else {
                return machine.content == nil && access("\(state(machine))/disk.img", F_OK) == 0
            }
            let found = access(entry.path, F_OK) == 0 ? try digest(of: entry.path) : ""
            return machine.secret || found == base
        }
        if !isForced, outcome.code != 0, outcome.code != FailureKind.busy.rawValue { problems.append("\(outcome)") }
        if !isForced, outcome.code == FailureKind.busy.rawValue, !isNeeded {
            problems.append("nothing stands on \(entry.stem): \(outcome.errors)")
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
        machines[index].base = nil
        machines[index].content = nil
        tell(.started, "machine \(index) is given up")
    }
}
