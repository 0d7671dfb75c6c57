import CLinux
import Glibc
import Values

/// A descriptor for arrays, optionals and closures, which can't hold what is closed once.
package final class HeldDescriptor {
    package let descriptor: Descriptor
    package init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }

    /// A file that must be there, or be made; the failure says what it was opened for.
    package init(opening path: String, _ flags: Int32, _ kind: FailureKind, _ operation: String) throws(Failure) {
        descriptor = try Failure.naming(kind, operation, path, try Descriptor.open(path, flags))
    }

    /// A file whose lock is a name's: one process at a time has it. Made where it is not there, with its folders, of which
    /// those that were missing are told, outermost first; nil where another has it and is not waited for.
    package static func locking(
        _ path: String, folderMode: mode_t, check: (borrowing Descriptor) throws(Errno) -> Void = { _ in },
        waits: () -> Bool = { false }
    ) throws(Errno) -> (file: HeldDescriptor, madeFolders: [String])? {
        var madeFolders: [String] = []
        while true {
            let folder = Files.folder(of: path)
            madeFolders += Files.missingFolders(folder)
            try Files.makeFolders(folder, mode: folderMode)
            let raw = clinux_open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0o600)
            // Another's end may have taken the empty folder away in between.
            if raw < 0, Errno.last == .notFound { continue }
            let file = Descriptor(try Errno.check { raw })
            try check(file)
            if try !file.tryLock() {
                if !waits() { return nil }
                try Errno.check { flock(file.raw, LOCK_EX) }
            }
            // The last owner may have removed the name between our open and our lock.
            let ours = try file.status()
            if let named = try? Files.status(path), named.st_ino == ours.st_ino, named.st_dev == ours.st_dev {
                return (HeldDescriptor(file), madeFolders)
            }
        }
    }

    package var raw: Int32 { descriptor.raw }
    /// Also a block device's.
    package var size: UInt64 { UInt64(max(0, lseek(raw, 0, SEEK_END))) }
    package func writeAll(_ bytes: [UInt8]) throws(Errno) { try descriptor.writeAll(bytes) }
}

/// An open file descriptor, closed exactly once.
package struct Descriptor: ~Copyable {
    package let raw: Int32

    package init(_ raw: Int32) { self.raw = raw }

    deinit { close(raw) }

    package static func open(_ path: String, _ flags: Int32, mode: mode_t = 0o600) throws(Errno) -> Descriptor {
        Descriptor(try Errno.check { clinux_open(path, flags | O_CLOEXEC, mode) })
    }

    package func read(atMost count: Int) throws(Errno) -> [UInt8] {
        var failure: Errno?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(Errno) { filled = try Errno.check { Glibc.read(raw, buffer.baseAddress, count) } } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// What there is of a pipe or socket that does not block: nil where that is nothing yet, empty at the end.
    package func readPresent(atMost count: Int) throws(Errno) -> [UInt8]? {
        try Errno.unlessBlocked { () throws(Errno) in try read(atMost: count) }
    }

    package func readAll(limit: Int = .max) throws(Errno) -> [UInt8] {
        var all: [UInt8] = []
        while all.count < limit {
            let part = try read(atMost: min(65536, limit - all.count))
            if part.isEmpty { break }
            all += part
        }
        return all
    }

    package func writeAll(_ bytes: [UInt8]) throws(Errno) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = try Errno.check { rest.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) } }
            rest = rest.dropFirst(count)
        }
    }

    package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) {
        var done = 0
        while done < bytes.count {
            done += try Errno.check {
                pwrite(raw, bytes.baseAddress! + done, bytes.count - done, off_t(offset) + off_t(done))
            }
        }
    }

    package func truncate(to length: UInt64) throws(Errno) { try Errno.check { ftruncate(raw, off_t(length)) } }

    package func setNonBlocking() throws(Errno) {
        let flags = try Errno.check { fcntl(raw, F_GETFL) }
        try Errno.check { fcntl(raw, F_SETFL, flags | O_NONBLOCK) }
    }

    package func status() throws(Errno) -> stat {
        var result = stat()
        try Errno.check { fstat(raw, &result) }
        return result
    }

    /// Takes the lock of the open file, if nobody has it.
    package func tryLock() throws(Errno) -> Bool {
        try Errno.unlessBlocked { () throws(Errno) in try Errno.check { flock(raw, LOCK_EX | LOCK_NB) } } != nil
    }

    /// Two sockets that are connected, and have no name by which anybody else could reach them.
    package static func socketPair() throws(Errno) -> (ours: Int32, theirs: Int32) {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        try Errno.check { socketpair(AF_UNIX, kind, 0, &ends) }
        return (ends[0], ends[1])
    }

    /// A pipe whose ends the caller owns.
    package static func pipe() throws(Errno) -> (reading: Int32, writing: Int32) {
        var ends: [Int32] = [-1, -1]
        try Errno.check { clinux_pipe(&ends) }
        return (ends[0], ends[1])
    }
}
