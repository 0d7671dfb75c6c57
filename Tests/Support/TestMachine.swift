import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import System
@testable import Values

/// A machine that a test launches with the real program, in folders of its own.
final class TestMachine {
    let scratch: Scratch
    let name: String
    private let process = Process()
    private let outputFile = temporaryFile()
    private let errorFile = temporaryFile()

    /// What boots the demo guest in some three seconds.
    static let kernel = [
        "--kernel", "\(Parts.shareFolder)/demo-kernel", "--initrd", "\(Parts.shareFolder)/demo-initrd",
        "--append", "console=ttyS0 quiet cryptomgr.notests noreplace-smp",
    ]

    static func options(_ scratch: Scratch, name: String) -> [String] {
        [
            "--name", name, "--run-dir", "\(scratch.path)/run", "--scratch", "\(scratch.path)/disks",
            "--share-dir", Parts.shareFolder,
        ]
    }

    /// `wrapper` is a program that runs the launcher, with its own arguments.
    init(
        _ arguments: [String], in scratch: Scratch, name: String = "test", vnc: String = "off", wrapper: [String] = []
    ) throws {
        self.scratch = scratch
        self.name = name
        // Whatever hugepages this host has for others.
        let own = ["--vnc", vnc, "--accel", "tcg", "-m", "256", "--hugepages", "off"]
        let words = wrapper + [Parts.snabbvm] + TestMachine.options(scratch, name: name) + own + arguments
        process.executableURL = URL(fileURLWithPath: Parts.path(of: words[0]))
        process.arguments = Array(words.dropFirst())
        process.standardOutput = outputFile.handle
        process.standardError = errorFile.handle
        process.standardInput = FileHandle.nullDevice
        try process.run()
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    }

    var pid: Int32 { process.processIdentifier }
    var output: String { outputFile.text }
    var errors: String { errorFile.text }
    var isRunning: Bool { process.isRunning }

    /// The exit code, once it has ended.
    func code() -> Int32 {
        process.waitUntilExit()
        return process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
    }

    func shows(_ text: String) -> Bool {
        eventually { self.output.contains(text) || !self.process.isRunning } && output.contains(text)
    }

    /// The demo guest is up, and has said all that it was given.
    func isUp() -> Bool { shows("snabbvm demo: ready") }

    /// QEMU runs, whatever its guest does by now.
    func isStarted() -> Bool {
        eventually { (try? self.status()["state"]) == "running" || !self.process.isRunning } && process.isRunning
    }

    func signal(_ signal: Int32) { kill(pid, signal) }

    @discardableResult
    func ask(_ verb: String, _ arguments: String...) throws -> Outcome {
        try run(Parts.snabbvm, [verb, "--name", name, "--run-dir", "\(scratch.path)/run"] + arguments)
    }

    func status() throws -> JSON { try JSON(parsing: try ask("status", "--json").output) }

    /// The processes of this machine, by the folder that stands in their arguments.
    var processes: [String] { processesNaming(scratch.path) }

    /// What stands between the demo guest's markers for a file of the seed, as the serial port had it.
    func given(_ file: String) -> String? { section(of: output, file) }
}

func section(of output: String, _ file: String) -> String? {
    let text = output.replacingOccurrences(of: "\r\n", with: "\n")
    guard let start = text.range(of: "=== \(file) begin ("), let line = text[start.upperBound...].firstIndex(of: "\n"),
        let end = text[line...].range(of: "=== \(file) end ===")
    else { return nil }
    return String(text[text.index(after: line)..<end.lowerBound])
}

func processesNaming(_ text: String) -> [String] {
    Files.names("/proc").compactMap { pid in
        guard Int(pid) != nil, pid != "\(getpid())",
            let line = FileTree().text("/proc/\(pid)/cmdline")?.replacingOccurrences(of: "\0", with: " "),
            line.contains(text)
        else { return nil }
        return "\(pid) \(line)"
    }
}

/// Nothing of the machine is left: no process, no file.
func expectNothingLeft(_ scratch: Scratch, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(eventually(within: 30) { processesNaming("\(scratch.path)/run").isEmpty }, sourceLocation: sourceLocation)
    #expect(processesNaming("\(scratch.path)/run") == [], sourceLocation: sourceLocation)
    #expect(Files.names("\(scratch.path)/run") == [], sourceLocation: sourceLocation)
    #expect(Files.names("\(scratch.path)/disks") == [], sourceLocation: sourceLocation)
}
