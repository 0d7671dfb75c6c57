import CLinux
import Glibc
import Values

extension Command {
    /// Descriptors 0, 1 and 2 of a child; nil is /dev/null.
    package struct Standard {
        package var input: Int32?
        package var output: Int32?
        package var error: Int32?
        /// Open files that the child has from descriptor 3 on.
        package var passed: [Int32] = []
        /// Descriptor 0 is a terminal, and becomes the child's own.
        package var ownTerminal = false
        /// The child shares the launcher's terminal, as a foreground program does, and outlives a killed launcher for long
        /// enough to put it back in order.
        package var sharesTerminal = false

        package init(
            input: Int32? = nil, output: Int32? = nil, error: Int32? = nil, passed: [Int32] = [],
            ownTerminal: Bool = false, sharesTerminal: Bool = false
        ) {
            self.input = input
            self.output = output
            self.error = error
            self.passed = passed
            self.ownTerminal = ownTerminal
            self.sharesTerminal = sharesTerminal
        }
    }

    /// Starts it; it dies with the launcher. The exit is told through the loop.
    @discardableResult
    package func start(
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
        var request = clinux_spawn()
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
                        return clinux_spawn(&request, &error, &step)
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

/// A NULL-ended array of C strings for as long as the object lives.
package final class CStrings {
    package let pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

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
