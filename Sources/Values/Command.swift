/// A program to run: exactly this argument vector, and these files open from descriptor 3 on.
package struct Command: Codable, Equatable {
    package struct File: Codable, Equatable {
        package var path: String
        package var writable = false

        package init(path: String, writable: Bool = false) {
            self.path = path
            self.writable = writable
        }
    }

    package var program: String
    package var arguments: [String]
    package var environment: [String: String] = [:]
    package var files: [File] = []
    package var user: User?
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

    package static let firstFile: Int32 = 3

    /// As it would be typed. The shell opens the files before the user is changed, as `start` does.
    package var shellText: String {
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

    package var name: String { String(program.split(separator: "/").last ?? "") }
}
