import Glibc

struct Errno: Error, Equatable, CustomStringConvertible {
    let code: Int32

    static var last: Errno { Errno(code: errno) }
    static let interrupted = Errno(code: EINTR)
    static let wouldBlock = Errno(code: EAGAIN)
    static let notFound = Errno(code: ENOENT)
    static let noDevice = Errno(code: ENODEV)
    static let busy = Errno(code: EBUSY)
    static let exists = Errno(code: EEXIST)
    static let denied = Errno(code: EACCES)
    static let notPermitted = Errno(code: EPERM)
    static let notEmpty = Errno(code: ENOTEMPTY)
    static let noSpace = Errno(code: ENOSPC)
    static let quotaExceeded = Errno(code: EDQUOT)
    static let readOnly = Errno(code: EROFS)

    /// Another user, or another place, would get further.
    var isRefusal: Bool { [.denied, .notPermitted, .readOnly].contains(self) }

    /// Where a machine's files can be, if not here.
    var otherPlaces: String? {
        if self == .readOnly {
            return "docker run --tmpfs /run --tmpfs /var/lib/snabbvm, or other places with --run-dir and --scratch"
        }
        return isRefusal ? "choose places that you may write with --run-dir and --scratch, or run it as root" : nil
    }

    var description: String { String(cString: strerror(code)) }

    /// Calls until it is not interrupted; a negative result is thrown as errno.
    @discardableResult
    static func check<Number: SignedInteger>(_ call: () -> Number) throws(Errno) -> Number {
        while true {
            let result = call()
            if result >= 0 { return result }
            let error = Errno.last
            if error != .interrupted { throw error }
        }
    }
}

extension Failure {
    /// A system call that failed. A full disk keeps its own exit code, whatever was being written.
    init(_ kind: FailureKind, _ operation: String, _ subject: String, _ errno: Errno, remedy: String? = nil) {
        let full = errno == .noSpace || errno == .quotaExceeded
        self.init(
            full ? .noSpace : kind, operation, subject, errno.description,
            remedy: full ? "make room there, or choose another folder with --scratch, --state or --cache" : remedy)
    }
}
