import CLinux
import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import System
@testable import TestSupport
@testable import Values

@Suite struct LedgerTests {
    private let scratch = Scratch()
    private var path: String { "\(scratch.path)/run/m.ledger" }

    @Test func undoesNewestFirstAndForgets() throws {
        let ledger = try Ledger(path)
        let folder = "\(scratch.path)/made"
        try ledger.record([.folder(path: folder, isShared: false), .file(path: "\(folder)/file")])
        try Files.makeFolders(folder, mode: 0o700)
        try Files.create("\(folder)/file", [1], mode: 0o600)
        #expect(ledger.unwind() == [])
        // Also the folder that was made for the ledger.
        #expect(Files.names(scratch.path) == [])
    }

    /// A crash between the ledger's line and the change, or while unwinding: nothing is there to be undone.
    @Test func undoingWhatWasNotMadeIsFine() throws {
        let ledger = try Ledger(path)
        try ledger.record([.folder(path: "\(scratch.path)/a", isShared: false), .file(path: "\(scratch.path)/a/b")])
        #expect(ledger.unwind() == [])
    }

    @Test func neverRemovesWhatOthersPutThere() throws {
        let folder = scratch.folder("made")
        let ledger = try Ledger(path)
        try ledger.record([.folder(path: folder, isShared: false)])
        let theirs = scratch.file("made/theirs", "x")
        #expect(ledger.unwind().map(\.subject) == [folder])
        #expect(FileManager.default.fileExists(atPath: theirs))
    }

    /// The kernel may close a killed process's files only some time after its end.
    @Test(.enabled(if: Parts.isRoot && Parts.has("ip", "python3"), "only root can make taps, or python3 is missing"))
    func tapsGoWhoeverHasThemOpen() throws {
        for isMultiQueue in [false, true] {
            let name = "svt\(UInt16.random(in: 0...UInt16.max))"
            try Errno.check { clinux_tap_make(name, isMultiQueue ? 1 : 0) }
            let program = """
                import fcntl, struct, time
                tap = open("/dev/net/tun", "r+b", buffering=0)
                fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"\(name)", \(isMultiQueue ? 0x1102 : 0x1002)))
                print("open", flush=True)
                time.sleep(60)
                """
            let holder = try Background("python3", ["-c", program])
            defer { holder.end() }
            #expect(eventually(within: 20) { holder.output.contains("open") }, "\(holder.errors)")
            try Effect.tap(name: name, isMultiQueue: isMultiQueue, namespace: HostFacts.Network.currentNamespace).undo()
            #expect(if_nametoindex(name) == 0)
        }
    }

    /// What could not be undone is still in the ledger for another try.
    @Test func keepsWhatFailed() throws {
        let folder = scratch.folder("made")
        let theirs = scratch.file("made/theirs", "x")
        try {
            let ledger = try Ledger(path)
            try ledger.record([.folder(path: folder, isShared: false), .file(path: "\(scratch.path)/gone")])
            #expect(ledger.unwind().count == 1)
        }()
        unlink(theirs)
        let again = try Ledger(path)
        #expect(
            again.changes == [
                .folder(path: "\(scratch.path)/run", isShared: true), .folder(path: folder, isShared: false),
            ])
        #expect(again.unwind() == [])
        #expect(!FileManager.default.fileExists(atPath: folder))
    }

    @Test func oneLauncherHasTheName() throws {
        let first = try Ledger(path)
        let failure = expectThrown(Failure.self) { try Ledger(path) }
        #expect(failure?.kind == .busy)
        #expect(Ledger.isHeld(path) == true)
        _ = first.unwind()
        #expect(Ledger.isHeld(path) == nil)
        #expect(throws: Never.self) { try Ledger(path) }
    }

    private func append(_ text: String) throws {
        let handle = try #require(FileHandle(forWritingAtPath: path))
        handle.seekToEndOfFile()
        handle.write(Data(text.utf8))
    }

    private func content() throws -> String { String(decoding: try Files.read(path, limit: 1 << 20), as: UTF8.self) }

    /// A line that a crash cut short is of a change that was never made: nothing is ever glued to it.
    @Test func aTornLineIsCutOffWhenTheLedgerIsOpened() throws {
        let made = scratch.path + "/made"
        try { try Ledger(path).record([.file(path: "\(scratch.path)/x")]) }()
        try append(#"{"file":{"path":"/etc/pass"#)
        try {
            let ledger = try Ledger(path)
            #expect(try !content().contains("pass"))
            // Killed again, after its first change.
            try ledger.record([.folder(path: made, isShared: false)])
            try Files.makeFolders(made, mode: 0o700)
        }()
        let ledger = try Ledger(path)
        #expect(ledger.unreadable == [])
        #expect(ledger.changes.suffix(2) == [.file(path: "\(scratch.path)/x"), .folder(path: made, isShared: false)])
        #expect(ledger.unwind() == [])
        #expect(Files.names(scratch.path) == [])
    }

    /// Runs the body while no file may grow beyond this size: writes come out short, as on a full disk.
    private func limitingFiles<Result>(to size: UInt64, _ body: () throws -> Result) rethrows -> Result {
        var before = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before)
        var limited = rlimit(rlim_cur: rlim_t(size), rlim_max: before.rlim_max)
        let handler = signal(SIGXFSZ, SIG_IGN)
        setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limited)
        defer {
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before)
            signal(SIGXFSZ, handler)
        }
        return try body()
    }

    @Test func aShortWriteLeavesTheLedgerAsItWas() throws {
        let ledger = try Ledger(path)
        try ledger.record([.file(path: "\(scratch.path)/x")])
        let before = try content()
        let failure = limitingFiles(to: UInt64(before.utf8.count) + 20) {
            expectThrown(Failure.self) { try ledger.record([.file(path: "\(scratch.path)/y")]) }
        }
        #expect(failure?.subject == path)
        #expect(try content() == before)
        try ledger.record([.file(path: "\(scratch.path)/z")])
        #expect(ledger.changes.suffix(2) == [.file(path: "\(scratch.path)/x"), .file(path: "\(scratch.path)/z")])
        _ = ledger.unwind()
    }

    @Test func eachLineHasAVersion() throws {
        let ledger = try Ledger(path)
        try ledger.record([.hugepageAdded, .interfaceUp(name: "eth1")])
        #expect(try content().split(separator: "\n").allSatisfy { $0.hasSuffix(#","v":1}"#) })
        // They are not to be undone here.
        unlink(path)
    }

    private static let foreign = [
        #"{"portal":{"path":"/x"},"v":1}"#, #"{"file":{"path":"/etc/passwd"},"v":2}"#, #"{"file":{},"v":1}"#,
        #"{"file":{"path":"/etc/passwd"},"mount":{"path":"/x"},"v":1}"#, #"{"file":{"path":"/etc/passwd"},"v":"1"}"#,
        #"{"portal":{}}"#, "[]", "nothing of ours", "\u{1}",
    ]

    /// What a newer version did to the host this one can't undo, nor may it forget.
    @Test(arguments: foreign)
    func whatIsNotUnderstoodIsKeptAndReported(_ line: String) throws {
        let made = scratch.file("made", "x")
        try { try Ledger(path).record([.file(path: made)]) }()
        try append(line + "\n")
        try { try Ledger(path).record([.file(path: "\(scratch.path)/y")]) }()
        for _ in 0..<2 {
            let ledger = try Ledger(path)
            #expect(ledger.unreadable == [line])
            let failures = ledger.unwind()
            #expect(failures.map(\.kind) == [.cleanup])
            #expect(failures.first?.line.contains(path) == true && failures.first?.remedy?.contains("--forget") == true)
            #expect(!FileManager.default.fileExists(atPath: made))
            // With the folder around it, which is still ours to remove.
            #expect(try content().split(separator: "\n").count == 2)
        }
        #expect(Ledger.isHeld(path) == false)
        #expect(try Ledger(path).unwind(forgetting: true) == [])
        #expect(Files.names(scratch.path) == [])
    }

    /// The same to users, by the program: no start of that name, and exit code 12, until it is told to forget.
    @Test func noStartOverWhatIsNotUnderstood() throws {
        let base = "\(scratch.path)/run"
        try { try Ledger("\(base)/vm.ledger").record([.file(path: scratch.file("made", "x"))]) }()
        let handle = try #require(FileHandle(forWritingAtPath: "\(base)/vm.ledger"))
        handle.seekToEndOfFile()
        handle.write(Data((LedgerTests.foreign[0] + "\n").utf8))
        let places = ["--name", "vm", "--run-dir", base]
        let line = try Ledger("\(base)/vm.ledger").unreadableFailure?.line ?? ""
        for words in [["run", "--scratch", "\(scratch.path)/disks", "image.qcow2"], ["release"], ["release"]] {
            let outcome = try run(Parts.snabbvm, words + places)
            #expect(outcome.code == 12, "\(words) \(outcome.errors)")
            #expect(outcome.errors.components(separatedBy: line).count == 2, "\(words) \(outcome.errors)")
        }
        #expect(Files.names(scratch.path) == ["run"])
        let outcome = try run(Parts.snabbvm, ["release", "--forget"] + places)
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(outcome.errors.contains("portal"))
        #expect(Files.names(scratch.path) == [])
    }

    /// Nothing is cut off before what stays is written elsewhere, and what can't be written stays as it was.
    @Test func unwindingLosesNothingOnAFullDisk() throws {
        let folder = scratch.folder("made")
        _ = scratch.file("made/theirs", "x")
        let ledger = try Ledger(path)
        try ledger.record([.folder(path: folder, isShared: false), .file(path: "\(scratch.path)/gone")])
        let before = ledger.changes
        let failures = limitingFiles(to: 10) { ledger.unwind() }
        #expect(failures.map(\.subject) == [folder, path])
        // The newest line was undone, and forgotten at once; what stays, stays.
        #expect(ledger.changes == before.dropLast())
        #expect(Files.names("\(scratch.path)/run") == ["m.ledger"])
    }

    /// When what stayed goes at last, so do the folders that were there because of it.
    @Test func whatStaysKeepsTheFoldersAroundIt() throws {
        let outer = "\(scratch.path)/shared"
        let kept = "\(outer)/kept"
        try {
            let ledger = try Ledger(path)
            try ledger.record([.folder(path: outer, isShared: true), .folder(path: kept, isShared: false)])
            try Files.makeFolders(kept, mode: 0o700)
            _ = scratch.file("shared/kept/theirs", "x")
            #expect(ledger.unwind().map(\.subject) == [kept])
        }()
        unlink("\(kept)/theirs")
        #expect(try Ledger(path).unwind() == [])
        #expect(Files.names(scratch.path) == [])
    }

    /// Whoever waits for the name has the new file, not the one that was replaced.
    @Test func theNameStaysHeldWhileTheLedgerIsWrittenAnew() throws {
        let ledger = try Ledger(path)
        try ledger.record([.folder(path: scratch.folder("made"), isShared: false)])
        _ = scratch.file("made/theirs", "x")
        let inode = try Files.status(path).st_ino
        _ = ledger.unwind()
        #expect(try Files.status(path).st_ino != inode)
        #expect(Ledger.isHeld(path) == true)
        try ledger.record([.file(path: "\(scratch.path)/later")])
        #expect(ledger.changes.last == .file(path: "\(scratch.path)/later"))
    }

    /// As 0.1.0 wrote it, without versions.
    @Test func unwindsALedgerOfTheFirstVersion() throws {
        let (file, folder) = (scratch.file("disks/vm/disk.img", "x"), "\(scratch.path)/disks")
        let lines = [
            #"{"folder":{"isShared":true,"path":"\#(scratch.path)/run"}}"#,
            #"{"folder":{"isShared":true,"path":"\#(folder)"}}"#,
            #"{"folder":{"isShared":false,"path":"\#(folder)/vm"}}"#,
            #"{"file":{"path":"\#(file)"}}"#, #"{"file":{"path":"\#(file).new"}}"#,
            #"{"process":{"_1":{"pid":1,"startTime":1},"name":"qemu"}}"#,
        ]
        _ = scratch.file("run/m.ledger", lines.map { $0 + "\n" }.joined())
        let ledger = try Ledger(path)
        #expect(ledger.unreadable == [])
        #expect(ledger.changes.count == lines.count)
        #expect(ledger.unwind() == [])
        #expect(Files.names(scratch.path) == [])
    }

    /// A folder that the user made is still there when the machine is gone.
    @Test func leavesFoldersThatWereThere() throws {
        let base = scratch.folder("run")
        let ledger = try Ledger("\(base)/m.ledger")
        #expect(ledger.unwind() == [])
        #expect(FileManager.default.fileExists(atPath: base))
        #expect(Files.names(base) == [])
    }

    @Test func endsOurProcessAndNoOther() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sleep")
        process.arguments = ["600"]
        try process.run()
        var identity = try #require(ProcessIdentity(pid: process.processIdentifier))
        identity.startTime -= 1
        // Another process that had this pid before.
        try Effect.process(name: "sleep", identity).undo()
        #expect(process.isRunning)
        identity.startTime += 1
        try Effect.process(name: "sleep", identity).undo()
        process.waitUntilExit()
        #expect(process.terminationStatus == SIGKILL)
    }

    /// Whoever could write it could have us remove files and kill processes.
    @Test func trustsNoLedgerThatOthersMayWrite() throws {
        let base = scratch.folder("run")
        let victim = scratch.file("victim", "x")
        _ = scratch.file("run/m.ledger", #"{"file":{"path":"\#(victim)"}}"# + "\n")
        for (path, mode) in [("\(base)/m.ledger", mode_t(0o666)), (base, mode_t(0o777))] {
            let before = try Files.status(path).st_mode
            chmod(path, mode)
            let failure = expectThrown(Failure.self) { try Ledger("\(base)/m.ledger") }
            #expect(failure?.operation == "trust")
            chmod(path, before & ~0o022)
        }
        #expect(FileManager.default.fileExists(atPath: victim))
        #expect(throws: Never.self) { try Ledger("\(base)/m.ledger") }
    }

    /// Nobody else may read which files and processes there are.
    @Test func isPrivate() throws {
        let ledger = try Ledger(path)
        #expect(try Files.status(path).st_mode & 0o077 == 0)
        _ = ledger.unwind()
    }
}
