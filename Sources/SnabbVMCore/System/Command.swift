import CHost
import CLinux
import Glibc

/// A user to run a program as, without any right beyond; it can be the launcher's own.
struct User: Codable, Equatable {
    var uid: UInt32
    var gid: UInt32
    var groups: [UInt32] = []
}

/// A program to run: exactly this argument vector, and these files open from descriptor 3 on.
struct Command: Codable, Equatable {
    struct File: Codable, Equatable {
        var path: String
        var writable = false
    }

    var program: String
    var arguments: [String]
    var environment: [String: String] = [:]
    var files: [File] = []
    var user: User?
    /// The processors that it may use; none for all of them.
    var cpus: [Int] = []
    /// For programs that read what others made: a limit on memory and processor time.
    var addressSpace: UInt64 = 0
    var cpuSeconds: UInt64 = 0

    static let firstFile: Int32 = 3

    /// As it would be typed. The shell opens the files before the user is changed, as `start` does.
    var shellText: String {
        var words = environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.shellQuoted)" }
        // Without its rights, who can't change the user can't be shown in a shell's words.
        if let user, user.uid != 0 {
            let groups = user.groups.map(String.init).joined(separator: ",")
            words += ["setpriv", "--reuid", "\(user.uid)", "--regid", "\(user.gid)"]
            words += groups.isEmpty ? ["--clear-groups"] : ["--groups", groups]
        }
        if !cpus.isEmpty { words += ["taskset", "-c", cpus.ranges] }
        words += ([program] + arguments).map(\.shellQuoted)
        for (index, file) in files.enumerated() {
            words.append("\(Int(Command.firstFile) + index)\(file.writable ? "<>" : "<")\(file.path.shellQuoted)")
        }
        return words.joined(separator: " ")
    }

    var name: String { String(program.split(separator: "/").last ?? "") }
}

/// A process by what stays true of it: its pid can be given to another, its start time with it can't.
struct ProcessIdentity: Codable, Equatable {
    var pid: Int32
    var startTime: UInt64

    init?(pid: Int32) {
        guard let startTime = ProcessIdentity.startTime(of: pid) else { return nil }
        self.pid = pid
        self.startTime = startTime
    }

    var isAlive: Bool { ProcessIdentity.startTime(of: pid) == startTime }

    /// Field 22 of /proc/PID/stat; the name before it can hold anything, but ends with the last parenthesis.
    private static func startTime(of pid: Int32) -> UInt64? {
        guard let stat = FileTree().text("/proc/\(pid)/stat"), let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[end...].split(separator: " ")
        guard fields.count > 20, fields[1] != "Z" else { return nil }
        return UInt64(fields[20])
    }
}

extension Command {
    /// Descriptors 0, 1 and 2 of a child; nil is /dev/null.
    struct Standard {
        var input: Int32?
        var output: Int32?
        var error: Int32?
        /// Open files that the child has from descriptor 3 on.
        var passed: [Int32] = []
        /// Descriptor 0 is a terminal, and becomes the child's own.
        var ownTerminal = false
        /// The child shares the launcher's terminal, as a foreground program does, and outlives a killed launcher for long
        /// enough to put it back in order.
        var sharesTerminal = false
    }

    /// Starts it; it dies with the launcher. The exit is told through the loop.
    @discardableResult
    func start(
        in loop: EventLoop, _ standard: Standard = Standard(), kind: FailureKind = .host,
        onExit: @escaping (ExitStatus) throws -> Void
    ) throws -> pid_t {
        let null = try Descriptor.open("/dev/null", O_RDWR)
        var descriptors = [standard.input, standard.output, standard.error].map { $0 ?? null.raw } + standard.passed
        let ours = descriptors.count
        defer { for opened in descriptors.dropFirst(ours) { close(opened) } }
        for file in files {
            let opened = clinux_open(file.path, (file.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY, 0)
            if opened < 0 { throw Failure(.image, "open", file.path, Errno.last) }
            descriptors.append(opened)
        }
        let pid = try spawn(descriptors, standard, kind: kind)
        loop.onExit(of: pid, do: onExit)
        return pid
    }

    private func spawn(_ descriptors: [Int32], _ standard: Standard, kind: FailureKind) throws -> pid_t {
        let argv = CStrings([program] + arguments)
        let envp = CStrings(Command.inheritedEnvironment(changedBy: environment))
        var request = chost_spawn()
        request.argv = UnsafePointer(argv.pointer)
        request.envp = UnsafePointer(envp.pointer)
        request.own_session = !standard.sharesTerminal
        request.controlling_terminal = standard.ownTerminal
        request.death_signal = standard.sharesTerminal ? 0 : SIGKILL
        request.address_space = addressSpace
        request.cpu_seconds = cpuSeconds
        var error: Int32 = 0
        var step: UnsafePointer<CChar>?
        let groups = user?.groups ?? []
        let cpus = cpus.map(Int32.init)
        let pid = program.withCString { path in
            descriptors.withUnsafeBufferPointer { descriptors in
                groups.withUnsafeBufferPointer { groups in
                    cpus.withUnsafeBufferPointer { cpus in
                        request.path = path
                        request.cpus = cpus.baseAddress
                        request.cpu_count = Int32(cpus.count)
                        request.descriptors = descriptors.baseAddress
                        request.descriptor_count = Int32(descriptors.count)
                        if let user {
                            request.drop_rights = true
                            request.change_user = user.uid != geteuid()
                            request.uid = user.uid
                            request.gid = user.gid
                            request.groups = groups.baseAddress
                            request.group_count = Int32(groups.count)
                        }
                        return chost_spawn(&request, &error, &step)
                    }
                }
            }
        }
        if pid < 0 {
            let what = step.map { String(cString: $0) } ?? ""
            throw Failure(kind, "start", program, "\(what): \(Errno(code: error))")
        }
        return pid
    }

    /// The launcher's own settings are nobody else's business: they may name secrets. And a tmux around us is not ours.
    private static func inheritedEnvironment(changedBy changes: [String: String]) -> [String] {
        var result = Environment.current.filter { !$0.key.hasPrefix("SNABBVM_") && !$0.key.hasPrefix("TMUX") }
        result.merge(changes) { $1 }
        return result.map { "\($0.key)=\($0.value)" }
    }
}

enum Environment {
    static var current: [String: String] {
        var result: [String: String] = [:]
        guard var entry = clinux_environment() else { return result }
        while let text = entry.pointee {
            let pair = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if pair.count == 2 { result[String(pair[0])] = String(pair[1]) }
            entry += 1
        }
        return result
    }
}

/// A NULL-ended array of C strings for as long as the object lives.
final class CStrings {
    let pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

    init(_ strings: [String]) {
        count = strings.count
        pointer = .allocate(capacity: count + 1)
        for (index, string) in strings.enumerated() { pointer[index] = strdup(string) }
        pointer[count] = nil
    }

    deinit {
        for index in 0..<count { free(pointer[index]) }
        pointer.deallocate()
    }
}

/// A program whose output is wanted: runs while others do, until someone waits for it.
final class Job {
    private(set) var output: [UInt8] = []
    private(set) var errors = ""
    private(set) var status: ExitStatus?
    private(set) var timedOut = false
    private var openPipes = 0
    private let loop: EventLoop
    private let command: Command
    private let onEnd: () throws -> Void
    private(set) var pid: pid_t = 0
    private var timer: EventLoop.Timer?

    /// `onOutput`, when given, sees the output as it comes in place of having it gathered; `onEnd` is for who does not
    /// wait with `finish`.
    init(
        _ command: Command, in loop: EventLoop, limit: Duration, kind: FailureKind,
        input: String? = nil, onOutput: (([UInt8]) throws -> Void)? = nil, onEnd: @escaping () throws -> Void = {}
    ) throws {
        self.onEnd = onEnd
        self.loop = loop
        self.command = command
        let (out, outWriting) = try Descriptor.pipe()
        let (err, errWriting) = try Descriptor.pipe()
        defer {
            close(outWriting)
            close(errWriting)
        }
        try gather(out) { [unowned self] in if let onOutput { try onOutput($0) } else { output += $0 } }
        try gather(err) { [unowned self] in
            if errors.utf8.count < 65536 { errors += String(decoding: $0, as: UTF8.self) }
        }
        let given = try input.map(Job.readable)
        pid = try command.start(
            in: loop, .init(input: given?.raw, output: outWriting, error: errWriting), kind: kind
        ) { [self] in
            loop.cancel(timer)
            status = $0
            try tellEnd()
        }
        timer = loop.after(limit) { [unowned self] in
            timedOut = true
            kill(pid, SIGKILL)
        }
    }

    /// A file without a name.
    private static func readable(_ text: String) throws(Errno) -> HeldDescriptor {
        let file = Descriptor(try Errno.check { clinux_memory_file("input") })
        try file.writeAll(Array(text.utf8))
        lseek(file.raw, 0, SEEK_SET)
        return HeldDescriptor(file)
    }

    private func tellEnd() throws {
        if hasEnded { try onEnd() }
    }

    private func gather(_ descriptor: Int32, _ take: @escaping ([UInt8]) throws -> Void) throws(Errno) {
        let end = Descriptor(descriptor)
        try end.setNonBlocking()
        openPipes += 1
        let reader = PipeReader(end)
        loop.watch(descriptor, for: .readable) { [self] _ in
            guard let bytes = try reader.end.readPresent(atMost: 65536) else { return }
            if !bytes.isEmpty { return try take(bytes) }
            loop.unwatch(reader.end.raw)
            reader.close()
            openPipes -= 1
            try tellEnd()
        }
    }

    var hasEnded: Bool { status != nil && openPipes == 0 }

    /// Waits for the end; anything but success is a failure that shows the program's last words.
    @discardableResult
    func finish(_ kind: FailureKind, _ operation: String, _ subject: String) throws -> [UInt8] {
        try loop.run { hasEnded }
        if timedOut { throw Failure(kind, operation, subject, "\(command.name) did not finish in time") }
        if status == .code(0) { return output }
        throw Failure(kind, operation, subject, Job.words(of: errors, status: status))
    }

    static func words(of errors: String, status: ExitStatus?) -> String {
        let lines = errors.split(separator: "\n").suffix(3).map { String($0).trimmed }.filter { !$0.isEmpty }
        return lines.isEmpty ? (status.map { "\($0)" } ?? "no answer") : lines.joined(separator: " / ")
    }
}

/// Holds what a closure can't capture: a descriptor that is closed once.
private final class PipeReader {
    private var optional: Descriptor?
    init(_ end: consuming Descriptor) { optional = consume end }
    var end: Descriptor { _read { yield optional! } }
    func close() { optional = nil }
}
