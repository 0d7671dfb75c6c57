import CLinux
import Foundation
import Testing

@testable import SnabbVMCore

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
            try Change.tap(name: name, isMultiQueue: isMultiQueue, namespace: Facts.Network.currentNamespace).undo()
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
        #expect(again.changes == [.folder(path: folder, isShared: false)])
        #expect(again.unwind() == [])
        #expect(!FileManager.default.fileExists(atPath: folder))
    }

    @Test func oneLauncherHasTheName() throws {
        let first = try Ledger(path)
        let failure = #expect(throws: Failure.self) { try Ledger(path) }
        #expect(failure?.kind == .busy)
        #expect(Ledger.isHeld(path) == true)
        _ = first.unwind()
        #expect(Ledger.isHeld(path) == nil)
        #expect(throws: Never.self) { try Ledger(path) }
    }

    @Test func survivesALineThatWasCutShort() throws {
        try { try Ledger(path).record([.file(path: "\(scratch.path)/x")]) }()
        let handle = try #require(FileHandle(forWritingAtPath: path))
        handle.seekToEndOfFile()
        handle.write(Data(#"{"file":{"path":"/etc/pass"#.utf8))
        #expect(try Ledger(path).changes.contains(.file(path: "\(scratch.path)/x")))
        #expect(try !Ledger(path).changes.contains { "\($0)".contains("pass") })
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
        try Change.process(name: "sleep", identity).undo()
        #expect(process.isRunning)
        identity.startTime += 1
        try Change.process(name: "sleep", identity).undo()
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
            let failure = #expect(throws: Failure.self) { try Ledger("\(base)/m.ledger") }
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
