import CLinux
import Glibc
import Values

/// Files below a root folder: `/` for the machine, a made-up tree in tests.
package struct FileTree {
    package let root: String

    package init(root: String = "/") { self.root = root }

    package func path(_ path: String) -> String { root == "/" ? path : root + path }

    package func text(_ path: String) -> String? {
        guard let descriptor = try? Descriptor.open(self.path(path), O_RDONLY | O_NONBLOCK),
            let bytes = try? descriptor.readAll(limit: 4 << 20)
        else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    package func lines(_ path: String) -> [Substring] { (text(path) ?? "").split(separator: "\n") }

    /// Of lines as `/proc/meminfo` has them, what stands behind each name; behind the first of several.
    package static func fields(_ lines: [Substring]) -> [String: String] {
        let pairs = lines.map { $0.split(separator: ":", maxSplits: 1).map { String($0).trimmed } }
        return Dictionary(pairs.map { ($0.first ?? "", $0.dropFirst().first ?? "") }) { first, _ in first }
    }

    /// The content of a one-line file, as sysfs has them.
    package func line(_ path: String) -> String? { text(path)?.trimmed }

    package func number(_ path: String) -> Int? { line(path).flatMap { Int($0) } }

    package func exists(_ path: String) -> Bool { access(self.path(path), F_OK) == 0 }

    /// The names in a folder, sorted; none where there is no such folder.
    package func names(_ path: String) -> [String] { Files.names(self.path(path)).sorted(by: FileTree.precedes) }

    /// node2 before node10.
    private static func precedes(_ one: String, _ other: String) -> Bool {
        let digits = { (text: String) in Int(text.drop { !$0.isNumber }) }
        if let a = digits(one), let b = digits(other), a != b { return a < b }
        return one < other
    }

    /// The last part of where a symbolic link points, as sysfs names a driver or group.
    package func linkName(_ path: String) -> String? {
        Files.linkTarget(self.path(path)).map { String($0.split(separator: "/").last ?? "") }
    }
}

/// What is done with files, each with its errno.
package enum Files {
    package static func names(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    package static func linkTarget(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(path, &buffer, Int(PATH_MAX))
        return count < 0 ? nil : String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    package static func status(_ path: String) throws(Errno) -> stat {
        var result = stat()
        try Errno.check { stat(path, &result) }
        return result
    }

    /// When it was written to last, in nanoseconds since 1970.
    package static func modified(_ status: stat) -> Int64 {
        Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
    }

    package static func isFolder(_ path: String) -> Bool {
        (try? status(path)).map { $0.st_mode & S_IFMT == S_IFDIR } ?? false
    }

    /// The full path with every link followed.
    package static func resolved(_ path: String) throws(Errno) -> String {
        guard let result = realpath(path, nil) else { throw Errno.last }
        defer { free(result) }
        return String(cString: result)
    }

    static var currentFolder: String { (try? resolved(".")) ?? "/" }

    package static func absolute(_ path: String) -> String {
        path.hasPrefix("/") ? path : currentFolder + (currentFolder == "/" ? "" : "/") + path
    }

    package static func read(_ path: String, limit: Int) throws(Errno) -> [UInt8] {
        try Descriptor.open(path, O_RDONLY | O_NOCTTY).readAll(limit: limit)
    }

    /// A new file with this mode whatever the umask is; fails if there is one.
    package static func create(_ path: String, _ content: [UInt8], mode: mode_t) throws(Errno) {
        let descriptor = try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode)
        try Errno.check { fchmod(descriptor.raw, mode) }
        try descriptor.writeAll(content)
    }

    /// What is in a file, or which names are in a folder, is on the disk before this returns.
    package static func sync(_ path: String) throws(Errno) {
        let file = try Descriptor.open(path.isEmpty ? "/" : path, O_RDONLY)
        try Errno.check { fsync(file.raw) }
    }

    /// Puts the content there in one step: a reader sees the old file or the new one, never half of it; where it is
    /// synced, after a power cut too.
    package static func replace(
        _ path: String, _ content: [UInt8], mode: mode_t, syncs: Bool = false
    ) throws(Errno) {
        let temporary = path + ".new"
        unlink(temporary)
        do throws(Errno) {
            try create(temporary, content, mode: mode)
            if syncs { try sync(temporary) }
            try Errno.check { rename(temporary, path) }
            if syncs { try sync(folder(of: path)) }
        } catch {
            unlink(temporary)
            throw error
        }
    }

    /// In nanoseconds since 1970, as files have their times.
    package static var timeNow: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    package static func freeSpace(_ path: String) -> ByteCount? {
        var result = statvfs()
        guard statvfs(path, &result) == 0 else { return nil }
        return ByteCount(UInt64(result.f_bavail) * UInt64(result.f_frsize))
    }

    /// Of a file in the root folder it is the empty text.
    package static func folder(of path: String) -> String {
        String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    }

    /// The nearest folder of the path that exists.
    package static func existingPart(of path: String) -> String {
        var part = path
        while !part.isEmpty, access(part, F_OK) != 0 { part = folder(of: part) }
        return part.isEmpty ? "/" : part
    }

    /// Whether a user with no relation to the file could read it: each folder on the way passable, the file readable.
    package static func readableByAnyone(_ path: String) -> Bool {
        guard let resolved = try? resolved(path), let file = try? status(resolved), file.st_mode & 0o004 != 0 else {
            return false
        }
        var part = resolved
        repeat {
            part = folder(of: part)
            guard let above = try? status(part.isEmpty ? "/" : part), above.st_mode & 0o001 != 0 else { return false }
        } while !part.isEmpty
        return true
    }

    package static var searchPath: String { Environment.current["PATH"] ?? "" }

    /// A program by its name on PATH, or by its path.
    package static func findProgram(_ name: String, path: String = searchPath) -> String? {
        let candidates = name.contains("/") ? [name] : path.split(separator: ":").map { "\($0)/\(name)" }
        return candidates.first { access($0, X_OK) == 0 && !isFolder($0) }
    }

    /// The programs for the network are for root, and not on everybody's path.
    package static func findProgramForRoot(_ name: String, path: String = searchPath) -> String? {
        findProgram(name, path: "\(path):/usr/sbin:/sbin:/usr/bin:/bin")
    }

    /// This folder and those above it that are not there, outermost first.
    package static func missingFolders(_ path: String) -> [String] {
        if path.isEmpty || access(path, F_OK) == 0 { return [] }
        return missingFolders(folder(of: path)) + [path]
    }

    /// The folder and those above it; the last one with this mode, if it is made now.
    package static func makeFolders(_ path: String, mode: mode_t) throws(Errno) {
        if isFolder(path) { return }
        let parent = folder(of: path)
        if !parent.isEmpty { try makeFolders(parent, mode: 0o755) }
        do throws(Errno) {
            try Errno.check { mkdir(path, mode) }
            try Errno.check { chmod(path, mode) }
        } catch {
            if error != .exists { throw error }
        }
    }

    /// The folder and all in it; links themselves, never what they point at.
    package static func removeTree(_ path: String) {
        if unlink(path) == 0 || Errno.last == .notFound { return }
        for name in names(path) { removeTree("\(path)/\(name)") }
        rmdir(path)
    }

    /// Writes a value where the kernel takes one.
    package static func set(_ path: String, _ value: String) throws(Errno) {
        try Descriptor.open(path, O_WRONLY).writeAll(Array("\(value)\n".utf8))
    }
}
