import Glibc
import Values

package struct Errno: Error, Equatable, CustomStringConvertible {
    package let code: Int32

    package init(code: Int32) { self.code = code }

    package static var last: Errno { Errno(code: errno) }
    package static let interrupted = Errno(code: EINTR)
    package static let wouldBlock = Errno(code: EAGAIN)
    package static let notFound = Errno(code: ENOENT)
    package static let noDevice = Errno(code: ENODEV)
    package static let busy = Errno(code: EBUSY)
    package static let exists = Errno(code: EEXIST)
    package static let denied = Errno(code: EACCES)
    package static let notPermitted = Errno(code: EPERM)
    package static let notEmpty = Errno(code: ENOTEMPTY)
    package static let noSpace = Errno(code: ENOSPC)
    static let quotaExceeded = Errno(code: EDQUOT)
    package static let readOnly = Errno(code: EROFS)

    /// Another user, or another place, would get further.
    package var isRefusal: Bool { [.denied, .notPermitted, .readOnly].contains(self) }

    /// Where a machine's files can be, if not here.
    package var otherPlaces: String? {
        if self == .readOnly {
            return "docker run --tmpfs /run --tmpfs /var/lib/snabbvm, or other places with --run-dir and --scratch"
        }
        return isRefusal ? "choose places that you may write with --run-dir and --scratch, or run it as root" : nil
    }

    package var description: String { String(cString: strerror(code)) }

    /// Calls until it is not interrupted; a negative result is thrown as errno.
    @discardableResult
    package static func check<Number: SignedInteger>(_ call: () -> Number) throws(Errno) -> Number {
        while true {
            let result = call()
            if result >= 0 { return result }
            let error = Errno.last
            if error != .interrupted { throw error }
        }
    }

    /// nil where the call would have to wait.
    static func unlessBlocked<Value>(_ call: () throws(Errno) -> Value) throws(Errno) -> Value? {
        do throws(Errno) { return try call() } catch {
            if error == .wouldBlock { return nil }
            throw error
        }
    }
}

extension Failure {
    /// A system call that failed. A full disk keeps its own exit code, whatever was being written.
    package init(_ kind: FailureKind, _ operation: String, _ subject: String, _ errno: Errno, remedy: String? = nil) {
        let full = errno == .noSpace || errno == .quotaExceeded
        self.init(
            full ? .noSpace : kind, operation, subject, errno.description,
            remedy: full ? "make room there, or choose another folder with --scratch, --state or --cache" : remedy)
    }

    /// Makes a system call; where it is refused, the failure says what it was for.
    @discardableResult
    package static func naming<Value: ~Copyable>(
        _ kind: FailureKind, _ operation: String, _ subject: String, _ call: @autoclosure () throws(Errno) -> Value,
        remedy: (Errno) -> String? = { _ in nil }
    ) throws(Failure) -> Value {
        do throws(Errno) { return try call() } catch {
            throw Failure(kind, operation, subject, error, remedy: remedy(error))
        }
    }
}
