import CLinux
import Glibc
import System
import Values

/// The right to something in this network namespace, one launcher at a time, from whatever container it is there: a name
/// that ends with the process. Everybody can take names, so each launcher has one of its own, and looks who has others:
/// a stranger's is nobody's lock.
package enum NamespaceLock {
    private static let tries = 5

    /// nil where another launcher has it.
    package static func take(_ subject: String) throws(Errno) -> HeldDescriptor? {
        let prefix = "snabbvm \(subject)/"
        for attempt in 0..<tries {
            let own = prefix + hexadecimal(UInt64.random(in: 0...UInt64.max), digits: 16)
            let name = HeldDescriptor(Descriptor(try Errno.check { clinux_namespace_name(own) }))
            if try !hasRival(prefix, own) { return name }
            // Of two that come at once both may have seen the other: who comes again alone has it.
            _ = consume name
            if attempt < tries - 1 { usleep(UInt32.random(in: 1000...10_000)) }
        }
        return nil
    }

    private static func hasRival(_ prefix: String, _ own: String) throws(Errno) -> Bool {
        do throws(Errno) { return try Errno.check { clinux_namespace_rivals(prefix, own) } > 0 } catch {
            if error != .notFound { throw error }
            // A kernel without unix_diag says whose they are to nobody: they are all taken for locks.
            return isNamed(prefix, besides: own, in: FileTree())
        }
    }

    static func isNamed(_ prefix: String, besides own: String, in tree: FileTree) -> Bool {
        tree.lines("/proc/net/unix").contains { $0.contains(" @\(prefix)") && !$0.hasSuffix(" @\(own)") }
    }
}
