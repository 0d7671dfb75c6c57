import CLinux
import Foundation
import Testing

@testable import Host
@testable import System
@testable import TestSupport
@testable import Values

/// One launcher at a time has something in a network namespace, and nobody else can say that he is one.
struct NamespaceLockTests {
    private let subject = "test \(UInt64.random(in: 0...UInt64.max))"

    @Test func oneHasItAtATime() throws {
        var first = try NamespaceLock.take(subject)
        #expect(try first != nil && NamespaceLock.take(subject) == nil)
        // What only begins so is something else.
        #expect(try NamespaceLock.take(subject + "1") != nil)
        first = nil
        let second = try #require(try NamespaceLock.take(subject))
        withExtendedLifetime(second) {}
    }

    @Test func ofManyAtOnceOneHasIt() throws {
        for _ in 0..<20 {
            let subject = subject
            nonisolated(unsafe) var held: [HeldDescriptor] = []
            let guarded = NSLock()
            DispatchQueue.concurrentPerform(iterations: 8) { _ in
                guard let lock = try? NamespaceLock.take(subject) else { return }
                guarded.withLock { held.append(lock) }
            }
            #expect(held.count <= 1)
        }
    }

    /// As the kernel lists them, where it can't be asked whose they are.
    @Test func allNamesAreLocksWhereNobodySaysWhoseTheyAre() throws {
        let prefix = "snabbvm \(subject)/"
        let name = prefix + "0123456789abcdef"
        let lock = Descriptor(try Errno.check { clinux_namespace_name(name) })
        #expect(NamespaceLock.isNamed(prefix, besides: prefix + "fedcba9876543210", in: FileTree()))
        #expect(!NamespaceLock.isNamed(prefix, besides: name, in: FileTree()))
        #expect(!NamespaceLock.isNamed("snabbvm \(subject)1/", besides: "", in: FileTree()))
        #expect(lock.raw >= 0)
    }

    /// Whatever names a stranger has taken.
    @Test(
        .enabled(
            if: Parts.isRoot && Parts.has("setpriv", "/usr/bin/python3"), "there is no root, or no setpriv or python3"))
    func aStrangersNameIsNoLock() throws {
        let script = """
            import socket, sys, time
            kept = []
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                for name in ("0123456789abcdef", "0" * 16, ""):
                    kept.append(socket.socket(socket.AF_UNIX, kind))
                    kept[-1].bind(f"\\0snabbvm {sys.argv[1]}/{name}{kind.value}")
            print("bound", flush=True)
            time.sleep(600)
            """
        let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"]
        let stranger = try Background("setpriv", user + ["/usr/bin/python3", "-c", script, subject])
        try #require(eventually { stranger.output == "bound\n" }, "\(stranger.errors)")
        let lock = try #require(try NamespaceLock.take(subject))
        #expect(try NamespaceLock.take(subject) == nil)
        withExtendedLifetime((stranger, lock)) {}
    }
}
