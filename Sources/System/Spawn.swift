import CLinux
import Glibc
import Values

extension Command {
    package enum Terminal {
        case none
        /// Descriptor 0 is a terminal, and becomes the child's own.
        case own
        /// The child shares the launcher's terminal, as a foreground program does, and outlives a killed launcher for long
        /// enough to put it back in order.
        case shared
    }

    /// Starts the program; it dies with the launcher. The exit is told through the loop. Its descriptors 0, 1 and 2 are
    /// /dev/null where nothing else is said; `passed` are open files that it has from descriptor 3 on.
    @discardableResult
    package func start(
        in loop: EventLoop, input: Int32? = nil, output: Int32? = nil, error: Int32? = nil, passed: [Int32] = [],
        terminal: Terminal = .none, kind: FailureKind = .host, onExit: @escaping (ExitStatus) throws -> Void
    ) throws -> pid_t {
        let null = try Descriptor.open("/dev/null", O_RDWR)
        var descriptors = [input, output, error].map { $0 ?? null.raw } + passed
        let ours = descriptors.count
        defer { for opened in descriptors.dropFirst(ours) { close(opened) } }
        for file in files {
            let opened = clinux_open(file.path, (file.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY, 0)
            if opened < 0 { throw Failure(.image, "open", file.path, Errno.last) }
            descriptors.append(opened)
            if !file.isCopied { continue }
            let copy = clinux_sealed_copy(opened)
            if copy < 0 { throw Failure(.host, "copy", file.path, Errno.last, remedy: "it needs memory of its size") }
            close(opened)
            descriptors[descriptors.count - 1] = copy
        }
        let pid = try spawn(descriptors, terminal, kind: kind)
        loop.onExit(of: pid, do: onExit)
        return pid
    }

    private func spawn(_ descriptors: [Int32], _ terminal: Terminal, kind: FailureKind) throws -> pid_t {
        let argv = CStrings([program] + arguments)
        let envp = CStrings(Command.inheritedEnvironment(changedBy: environment))
        var request = clinux_spawn()
        request.argv = UnsafePointer(argv.pointer)
        request.envp = UnsafePointer(envp.pointer)
        request.path = UnsafePointer(argv.pointer[0])
        request.own_session = terminal != .shared
        request.controlling_terminal = terminal == .own
        request.death_signal = terminal == .shared ? 0 : SIGKILL
        request.address_space = addressSpace
        request.cpu_seconds = cpuSeconds
        request.locked_memory = lockedMemory
        let paths = CStrings(devices)
        let places = CStrings(devices.indices.map(Command.devicePlace) + [Command.deviceFolder])
        (request.devices, request.device_places) = (paths.constants, places.constants)
        request.device_folder = places.constants[devices.count]
        request.device_count = Int32(devices.count)
        var error: Int32 = 0
        var step: UnsafePointer<CChar>?
        let groups = user?.groups ?? []
        let cpus = cpus.map(Int32.init)
        if let user {
            request.drop_rights = true
            request.change_user = user.uid != geteuid()
            request.may_bind = mayBindLowPorts
            request.uid = user.uid
            request.gid = user.gid
        }
        let pid = descriptors.withUnsafeBufferPointer { descriptors in
            groups.withUnsafeBufferPointer { groups in
                cpus.withUnsafeBufferPointer { cpus in
                    request.cpus = cpus.baseAddress
                    request.cpu_count = Int32(cpus.count)
                    request.descriptors = descriptors.baseAddress
                    request.descriptor_count = Int32(descriptors.count)
                    request.groups = groups.baseAddress
                    request.group_count = Int32(groups.count)
                    return clinux_spawn(&request, &error, &step)
                }
            }
        }
        if pid < 0 {
            let what = step.map { String(cString: $0) } ?? ""
            throw Failure(kind, "start", program, "\(what): \(Errno(code: error))")
        }
        return pid
    }

    /// The launcher becomes the program.
    package func become() throws(Failure) -> Never {
        signal(SIGPIPE, SIG_DFL)
        let argv = CStrings([program] + arguments)
        execv(program, argv.pointer)
        throw Failure(.host, "start", program, Errno.last)
    }

    /// The launcher's own settings are nobody else's business: they may name secrets. And a tmux around us is not ours.
    private static func inheritedEnvironment(changedBy changes: [String: String]) -> [String] {
        var result = Environment.current.filter { !$0.key.hasPrefix("SNABBVM_") && !$0.key.hasPrefix("TMUX") }
        result.merge(changes) { $1 }
        return result.map { "\($0.key)=\($0.value)" }
    }
}

/// A NULL-ended array of C strings for as long as the object lives.
package final class CStrings {
    package let pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

    /// For who only reads them.
    var constants: UnsafePointer<UnsafePointer<CChar>?> {
        UnsafeRawPointer(pointer).assumingMemoryBound(to: UnsafePointer<CChar>?.self)
    }

    package init(_ strings: [String]) {
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
