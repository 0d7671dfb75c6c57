import CLinux
import Glibc
import Values

/// Who else could put something in the place of a path.
extension Files {
    /// As many as the kernel follows.
    private static let mostLinks = 40

    /// Why a stranger could put something else at this path, or what is to come there; nil where only root and this
    /// process's user can. Each folder on the way is root's or ours, and no others may write it: but for one where nobody
    /// removes what is another's, as long as what comes next is root's or ours.
    package static func stranger(onTheWayTo path: String) -> String? {
        var rest = absolute(path).split(separator: "/").reversed().map(String.init)
        var (folder, links) = ("", 0)
        if let why = stranger(in: "/") { return why }
        while let name = rest.popLast() {
            if name == "." { continue }
            if name == ".." {
                folder = Files.folder(of: folder)
                continue
            }
            let next = "\(folder)/\(name)"
            var status = stat()
            if lstat(next, &status) != 0 {
                // What is not there we make ourselves; where others can as well, who made it shows afterwards.
                return errno == ENOENT && !mayMake(in: folder) ? "others may make \(next)" : nil
            }
            if let why = owner(status, next) { return why }
            if status.st_mode & S_IFMT == S_IFLNK {
                links += 1
                guard links <= mostLinks, let target = linkTarget(next) else { return "\(next) leads nowhere" }
                if target.hasPrefix("/") { folder = "" }
                rest += target.split(separator: "/").reversed().map(String.init)
                continue
            }
            if status.st_mode & S_IFMT != S_IFDIR { return rest.isEmpty ? nil : "\(next) is no folder" }
            if let why = stranger(in: next, isLast: rest.isEmpty) { return why }
            folder = next
        }
        return nil
    }

    private static func stranger(in folder: String, isLast: Bool = false) -> String? {
        guard let status = try? status(folder) else { return "\(folder) can't be looked at" }
        if let why = owner(status, folder) { return why }
        let isSticky = status.st_mode & S_ISVTX != 0 && !isLast
        return status.st_mode & 0o022 == 0 || isSticky ? nil : "others may write \(folder)"
    }

    /// Root's, or this process's user's.
    package static func isOurs(_ user: uid_t) -> Bool { [0, geteuid()].contains(user) }

    private static func owner(_ status: stat, _ path: String) -> String? {
        isOurs(status.st_uid) ? nil : "\(path) belongs to user \(status.st_uid)"
    }

    /// What is made there stays.
    private static func mayMake(in folder: String) -> Bool {
        (try? status(folder.isEmpty ? "/" : folder)).map { $0.st_mode & 0o022 == 0 || $0.st_mode & S_ISVTX != 0 }
            ?? false
    }
}

extension Failure {
    /// Refuses a place of which somebody else could make something else.
    package static func refuseStrangers(_ path: String, option: String) throws(Failure) {
        guard let why = Files.stranger(onTheWayTo: path) else { return }
        throw Failure(.host, "trust", path, why, remedy: "choose a folder of your own with \(option)")
    }
}
