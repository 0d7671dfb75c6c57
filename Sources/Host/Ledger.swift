import CLinux
import Glibc
import Model
import System
import Values

/// The changes made to the host, in order, in a file that outlives the launcher. Its lock is the machine's name: whoever
/// holds it runs the machine.
package final class Ledger {
    package let path: String
    /// A dead launcher's changes are in it.
    package let hasLeftovers: Bool
    private let file: LockedFile
    private var held: [HeldDescriptor] = []

    /// Takes the name, or says who has it. What a dead launcher left is still in the ledger then.
    package init(_ path: String) throws(Failure) {
        self.path = path
        try Failure.refuseStrangers(Files.folder(of: path), option: "--run-dir")
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
        hasLeftovers = !locked.content.isEmpty
        if !file.madeFolders.isEmpty { try record(file.madeFolders.map { .folder(path: $0, isShared: true) }) }
    }

    /// Whether a launcher holds the ledger at this path; nil where there is none.
    package static func isHeld(_ path: String) -> Bool? {
        guard let file = try? Descriptor.open(path, O_RDONLY), let free = try? file.tryLock() else { return nil }
        return !free
    }

    /// Whether the NIC stands in the ledger at this path, whoever holds it.
    package static func names(_ nic: PCIAddress, in path: String) -> Bool {
        FileTree().lines(path).contains { change(in: $0)?.takenNIC?.address == nic }
    }

    /// Of the lines that are written. Those of 0.1.0 have none.
    private static let version: Int64 = 1

    private static func line(of change: Effect) throws -> String {
        var fields = try JSON(encoding: change).object ?? [:]
        fields["v"] = .integer(version)
        return JSON.object(fields).text + "\n"
    }

    /// nil for what another version wrote, or something else.
    private static func change(in line: some StringProtocol) -> Effect? {
        guard var fields = (try? JSON(parsing: String(line)))?.object else { return nil }
        guard [nil, .integer(version)].contains(fields.removeValue(forKey: "v")), fields.count == 1 else { return nil }
        return try? JSON.object(fields).decode(Effect.self)
    }

    private var lines: [(offset: Int, text: String, change: Effect?)] {
        var offset = 0
        return file.content.split(separator: 0x0a, omittingEmptySubsequences: false).dropLast().map { line in
            defer { offset += line.count + 1 }
            let text = String(decoding: line, as: UTF8.self)
            return (offset, text, Ledger.change(in: text))
        }
    }

    /// Oldest first.
    package var changes: [Effect] { lines.compactMap(\.change) }

    /// Lines that only who wrote them can undo.
    package var unreadable: [String] { lines.filter { $0.change == nil }.map(\.text) }

    /// What those lines mean for the machine's name.
    package var unreadableFailure: Failure? {
        let count = unreadable.count
        if count == 0 { return nil }
        let forget = "snabbvm release --forget --name \(path.machineName) drops it"
        return Failure(
            .cleanup, "read", "\(count == 1 ? "a line" : "\(count) lines") of \(path)",
            "another version of snabbvm wrote what stands there",
            remedy: "give back with that version, or by hand; \(forget)")
    }

    /// On the disk before this returns: the changes may be made now.
    package func record(_ changes: [Effect]) throws(Failure) {
        do { try file.append(Array(try changes.map(Ledger.line).joined().utf8)) } catch {
            throw Failure(.host, "write", path, error as? Errno ?? Errno.last)
        }
    }

    /// Kept open until the changes are undone.
    func hold(_ descriptor: HeldDescriptor) { held.append(descriptor) }

    /// Undoes the changes, newest first, each forgotten as soon as it is undone, and gives the name back. Goes on after a
    /// failure: what could not be undone, or not be read, is returned, and stays in the ledger for another try, with the
    /// folders that are there because of it. `forgetting` drops what can't be read.
    package func unwind(keepingName: Bool = false, forgetting: Bool = false) -> [Failure] {
        held = []
        var failures = forgetting ? [] : [unreadableFailure].compactMap(\.self)
        var staying: [String] = []
        /// Shared folders that are still there, among them the ledger's own.
        var folders: [String] = []
        for (offset, text, change) in lines.reversed() {
            var stays = change == nil && !forgetting
            do throws(Failure) {
                try change?.undo()
                if case .folder(let folder) = change, folder.isShared, access(folder.path, F_OK) == 0 {
                    folders.append(folder.path)
                    stays = true
                }
            } catch {
                failures.append(error)
                stays = true
            }
            if stays { staying.append(text) }
            if staying.isEmpty { file.truncate(offset) }
        }
        if failures.isEmpty, !keepingName {
            file.remove(andFolders: folders)
        } else {
            do throws(Errno) {
                try file.replace(with: Array(staying.reversed().map { $0 + "\n" }.joined().utf8))
            } catch {
                // The ledger is as it was, with what has been undone: another try finds that gone.
                failures.append(Failure(.cleanup, "write", path, error, remedy: "make room, then snabbvm release"))
            }
        }
        return failures
    }
}

extension String {
    /// The name in …/NAME.ledger.
    fileprivate var machineName: String { String(split(separator: "/").last?.dropLast(".ledger".count) ?? "") }
}

/// A file that one process at a time has.
private final class LockedFile {
    private let path: String
    private var file: HeldDescriptor
    /// Those that were not there, outermost first.
    let madeFolders: [String]

    /// nil where another has it.
    init?(_ path: String) throws(Errno) {
        self.path = path
        let locked = try HeldDescriptor.locking(path, folderMode: 0o755) { file throws(Errno) in
            // Whoever could write it could have us remove files and end processes of ours.
            for status in [try file.status(), try Files.status(Files.folder(of: path))]
            where !Files.isOurs(status.st_uid) || status.st_mode & 0o022 != 0 {
                throw .notPermitted
            }
        }
        guard let locked else { return nil }
        (file, madeFolders) = locked
        // A last line that a crash cut short is of a change that was never made.
        let bytes = content
        truncate(bytes.lastIndex(of: 0x0a).map { $0 + 1 } ?? 0, from: bytes.count)
    }

    var content: [UInt8] {
        lseek(file.raw, 0, SEEK_SET)
        return (try? file.descriptor.readAll()) ?? []
    }

    /// All of it, or nothing.
    func append(_ bytes: [UInt8]) throws(Errno) {
        let before = Int(try file.descriptor.status().st_size)
        do throws(Errno) {
            try file.writeAll(bytes)
            try Errno.check { fdatasync(file.raw) }
        } catch {
            truncate(before)
            throw error
        }
    }

    func truncate(_ length: Int, from now: Int? = nil) {
        if length != now { _ = ftruncate(file.raw, off_t(length)) }
    }

    /// In one step, and locked all the while: whoever opens the old file finds that it is no longer the one of that name.
    func replace(with bytes: [UInt8]) throws(Errno) {
        unlink(temporary)
        do throws(Errno) {
            guard let (new, _) = try HeldDescriptor.locking(temporary, folderMode: 0o755) else { throw .wouldBlock }
            try new.writeAll(bytes)
            try Errno.check { fdatasync(new.raw) }
            try Errno.check { rename(temporary, path) }
            file = new
        } catch {
            unlink(temporary)
            throw error
        }
    }

    private var temporary: String { path + ".new" }

    /// The folders too that were made for it, unless other machines are in them.
    func remove(andFolders folders: [String]) {
        unlink(temporary)
        unlink(path)
        for folder in folders { rmdir(folder) }
    }
}
