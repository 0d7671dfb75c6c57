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
