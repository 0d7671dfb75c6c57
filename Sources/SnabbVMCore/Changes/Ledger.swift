import CLinux
import Glibc

/// The changes made to the host, in order, in a file that outlives the launcher. Its lock is the machine's name: whoever
/// holds it runs the machine.
final class Ledger {
    let path: String
    private let file: LockedFile
    private var held: [HeldDescriptor] = []

    /// Takes the name, or says who has it. What a dead launcher left is still in the ledger then.
    init(_ path: String) throws(Failure) {
        self.path = path
        let locked: LockedFile?
        do throws(Errno) { locked = try LockedFile(path) } catch {
            if error == .notPermitted {
                throw Failure(
                    .host, "trust", path, "it or its folder belongs to another user, or others may write it",
                    remedy: "choose a folder of your own with --run-dir")
            }
            throw Failure(.host, "write", path, error, remedy: error.otherPlaces)
        }
        guard let locked else {
            throw Failure(
                .busy, "use the name of", path.machineName, "a machine of this name is running",
                remedy: "choose another with --name, or end it with snabbvm stop")
        }
        file = locked
        if !file.madeFolders.isEmpty {
            try record(file.madeFolders.map { .folder(path: $0, isShared: true) })
        }
    }

    /// Whether a launcher holds the ledger at this path; nil where there is none.
    static func isHeld(_ path: String) -> Bool? {
        guard let file = try? Descriptor.open(path, O_RDONLY), let free = try? file.tryLock() else { return nil }
        return !free
    }

    /// Whether the NIC stands in the ledger at this path, whoever holds it.
    static func names(_ nic: String, in path: String) -> Bool {
        (FileTree().text(path) ?? "").split(separator: "\n").contains { line in
            (try? JSON(parsing: String(line)).decode(Change.self))?.takenNIC?.address == nic
        }
    }

    var isEmpty: Bool { changes.isEmpty }

    /// Oldest first. A last line that a crash cut short was of a change that was not made.
    var changes: [Change] {
        lines.compactMap { try? JSON(parsing: $0.text).decode(Change.self) }
    }

    private var lines: [(offset: Int, text: String)] {
        var result: [(Int, String)] = []
        var offset = 0
        let bytes = file.content
        for line in bytes.split(separator: 0x0a, omittingEmptySubsequences: false).dropLast() {
            result.append((offset, String(decoding: line, as: UTF8.self)))
            offset += line.count + 1
        }
        return result
    }

    /// On the disk before this returns: the changes may be made now.
    func record(_ changes: [Change]) throws(Failure) {
        do {
            let text = try changes.map { try JSON(encoding: $0).text + "\n" }.joined()
            try file.append(Array(text.utf8))
        } catch {
            throw Failure(.host, "write", path, error as? Errno ?? Errno.last)
        }
    }

    /// Kept open until the changes are undone.
    func hold(_ descriptor: HeldDescriptor) { held.append(descriptor) }

    /// Undoes the changes, newest first, each forgotten as soon as it is undone, and gives the name back. Goes on after a
    /// failure: what could not be undone is returned, and stays in the ledger for another try.
    func unwind(keepingName: Bool = false) -> [Failure] {
        held = []
        var failures: [Failure] = []
        var kept: [String] = []
        var folders: [String] = []
        for (offset, text) in lines.reversed() {
            let change = try? JSON(parsing: text).decode(Change.self)
            if case .folder(let folder) = change, folder.isShared, self.path.hasPrefix(folder.path + "/") {
                folders.append(folder.path)
            }
            do throws(Failure) { try change?.undo() } catch {
                failures.append(error)
                kept.insert(text, at: 0)
            }
            if kept.isEmpty { file.truncate(offset) }
        }
        if kept.isEmpty {
            if keepingName {
                // The folders around the ledger are still there, and still ours to remove.
                try? record(folders.reversed().map { .folder(path: $0, isShared: true) })
            } else {
                file.remove(andFolders: folders)
            }
        } else {
            file.truncate(0)
            try? file.append(Array(kept.map { $0 + "\n" }.joined().utf8))
        }
        return failures
    }
}

extension String {
    /// The name in …/NAME.ledger.
    fileprivate var machineName: String {
        let last = split(separator: "/").last ?? ""
        return last.hasSuffix(".ledger") ? String(last.dropLast(".ledger".count)) : String(last)
    }
}

/// A file that one process at a time has.
private final class LockedFile {
    private let path: String
    private let descriptor: Descriptor
    /// Those that were not there, outermost first.
    private(set) var madeFolders: [String] = []

    /// nil where another has it.
    init?(_ path: String) throws(Errno) {
        self.path = path
        while true {
            let folder = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
            madeFolders += Files.missingFolders(folder)
            try Files.makeFolders(folder, mode: 0o755)
            let file: Descriptor
            do throws(Errno) {
                file = try Descriptor.open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o600)
            } catch {
                // Another launcher's end may have taken the empty folder away in between.
                if error == .notFound { continue }
                throw error
            }
            // Whoever could write it could have us remove files and end processes of ours.
            for status in [try file.status(), try Files.status(folder)]
            where ![0, geteuid()].contains(status.st_uid) || status.st_mode & 0o022 != 0 {
                throw Errno(code: EPERM)
            }
            guard try file.tryLock() else { return nil }
            // The last owner may have removed the name between our open and our lock.
            let ours = try file.status()
            if let named = try? Files.status(path), named.st_ino == ours.st_ino, named.st_dev == ours.st_dev {
                descriptor = file
                return
            }
        }
    }

    var content: [UInt8] {
        lseek(descriptor.raw, 0, SEEK_SET)
        return (try? descriptor.readAll()) ?? []
    }

    func append(_ bytes: [UInt8]) throws(Errno) {
        try descriptor.writeAll(bytes)
        try Errno.check { fdatasync(descriptor.raw) }
    }

    func truncate(_ length: Int) { _ = ftruncate(descriptor.raw, off_t(length)) }

    /// The folders too that were made for it, unless other machines are in them.
    func remove(andFolders folders: [String]) {
        unlink(path)
        for folder in folders { rmdir(folder) }
    }
}
