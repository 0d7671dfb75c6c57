/// A program to run: exactly this argument vector, and these files open from descriptor 3 on.
package struct Command: Codable, Equatable {
    package struct File: Codable, Equatable {
        package var path: String
        package var writable = false
        /// A copy in memory that nobody can change, and that can be opened again by its number.
        package var isCopied = false

        package init(path: String, writable: Bool = false, isCopied: Bool = false) {
            self.path = path
            self.writable = writable
            self.isCopied = isCopied
        }
    }

    package var program: String
    package var arguments: [String]
    package var environment: [String: String] = [:]
    package var files: [File] = []
    /// For each an end of a socket pair, from descriptor 3 on and before the files, as only QEMU is to have it. Typed by
    /// hand, the program listens at these paths instead.
    package var sockets: [String] = []
    package var user: User?
    /// The one right that a program can be left, though root never is: to listen on ports below 1024.
    package var mayBindLowPorts = false
    /// Device files that are the user's own for this program, in a view of the file system of its own.
    package var devices: [String] = []
    /// How much memory it may keep in place, where that is more than anybody may.
    package var lockedMemory: UInt64 = 0
    /// The processors that it may use; none for all of them.
    package var cpus: [Int] = []
    /// For programs that read what others made: a limit on memory and processor time.
    package var addressSpace: UInt64 = 0
    package var cpuSeconds: UInt64 = 0

    package init(
        program: String, arguments: [String], environment: [String: String] = [:], files: [File] = [],
        user: User? = nil, cpus: [Int] = []
    ) {
        self.program = program
        self.arguments = arguments
        self.environment = environment
        self.files = files
        self.user = user
        self.cpus = cpus
    }

    package static let firstDescriptor = 3
    /// How QEMU is told of such a socket.
    package static func socketWords(_ index: Int) -> String { "fd=\(firstDescriptor + index),server=off" }

    private var typedArguments: [String] {
        sockets.enumerated().reduce(arguments) { words, socket in
            let listening = "path=\(socket.element.optionQuoted),server=on,wait=off"
            return words.map { $0.replacing(Command.socketWords(socket.offset), with: listening) }
        }
    }

    /// As it would be typed. The shell opens the files before the user is changed, as `start` does.
    package var shellText: String {
        var words = environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.shellQuoted)" }
        if lockedMemory > 0 { words.append("prlimit --memlock=\(lockedMemory)") }
        if let user, !devices.isEmpty {
            words.append("unshare --mount sh -ec \(Command.deviceScript(devices, user).shellQuoted) sh")
        }
        // Without its rights, who can't change the user can't be shown in a shell's words.
        if let user, user.uid != 0 {
            let groups = user.groups.map(String.init).joined(separator: ",")
            words += ["setpriv", "--reuid", "\(user.uid)", "--regid", "\(user.gid)"]
            words += groups.isEmpty ? ["--clear-groups"] : ["--groups", groups]
            if mayBindLowPorts {
                words += ["inh-caps", "ambient-caps", "bounding-set"].map { "--\($0)=-all,+net_bind_service" }
            }
        }
        if !cpus.isEmpty { words += ["taskset", "-c", cpus.ranges] }
        words += ([program] + typedArguments).map(\.shellQuoted)
        for (index, file) in files.enumerated() {
            words.append(
                "\(Command.firstDescriptor + sockets.count + index)\(file.writable ? "<>" : "<")\(file.path.shellQuoted)"
            )
        }
        return words.joined(separator: " ")
    }

    /// Where devices are made before they take the others' places: a folder that is always there.
    package static let deviceFolder = "/sys"
    package static func devicePlace(_ index: Int) -> String { "\(deviceFolder)/\(index)" }

    /// The same as is done between fork and exec.
    private static func deviceScript(_ devices: [String], _ user: User) -> String {
        let made = devices.enumerated().map { index, path in
            let (place, path) = (devicePlace(index), path.shellQuoted)
            return """
                mknod -m 600 \(place) c $(stat -c '0x%t 0x%T' \(path))
                chown \(user.uid):\(user.gid) \(place)
                mount --bind \(place) \(path)
                """
        }
        let folder = deviceFolder
        return "mount -t tmpfs none \(folder)\n\(made.joined(separator: "\n"))\numount -l \(folder)\nexec \"$@\""
    }

    package var name: String { String(program.split(separator: "/").last ?? "") }
}
