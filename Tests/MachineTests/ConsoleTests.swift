import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import System
@testable import TestSupport
@testable import Values

/// What a person sees: a terminal (tmux, with the program in it), and VNC.
@Suite(.enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"), .serialized)
struct ConsoleTests {
    private let scratch = Scratch()
    private let port = freePort()
    private var display: String { "127.0.0.1:\(port - 5900)" }
    private var socket: String { "\(scratch.path)/outer" }

    @discardableResult
    private func tmux(_ arguments: String...) throws -> String {
        try run("tmux", ["-f", "/dev/null", "-S", socket] + arguments).output
    }

    /// Starts the program on a terminal of its own.
    private func start(_ arguments: [String]) throws {
        let words = ([Parts.snabbvm] + arguments).map(\.shellQuoted).joined(separator: " ")
        try tmux(
            "new-session", "-d", "-x", "100", "-y", "32",
            "sh -c '\(words.replacingOccurrences(of: "'", with: #"'\''"#)); echo ended with $?; sleep 1000'")
    }

    /// A server that is ending would take the next session with it.
    private func closeTerminal() throws {
        try tmux("kill-server")
        #expect(eventually { processesNaming(self.socket).isEmpty })
    }

    private var screen: String { (try? tmux("capture-pane", "-p")) ?? "" }

    private func launch(_ arguments: [String] = []) throws {
        try start(
            TestMachine.options(scratch, name: "test") + ["--vnc", "off", "--accel", "tcg", "-m", "256"] + arguments + [
                "--hugepages", "off", "demo",
            ])
    }

    private func end() throws {
        let control = ["--name", "test", "--run-dir", "\(scratch.path)/run"]
        #expect(try run(Parts.snabbvm, ["stop", "--now"] + control).code == 0)
        #expect(eventually { self.screen.contains("ended with 0") }, "\(screen)")
        try closeTerminal()
        expectNothingLeft(scratch)
    }

    @Test func theTerminalShowsTheGuestsScreen() throws {
        try launch()
        #expect(eventually { self.screen.contains("snabbvm demo: ready") }, "\(screen)")
        #expect(screen.contains("snabbvm demo machine") && screen.contains("[test] 0:screen*"))
        // What is typed reaches the guest.
        try tmux("send-keys", "Enter")
        #expect(eventually { self.screen.contains("demo:~#") }, "\(screen)")
        try tmux("send-keys", "echo $((6*7))ok", "Enter")
        #expect(eventually { self.screen.contains("42ok") }, "\(screen)")
        // The other windows.
        try tmux("send-keys", "C-b", "n")
        #expect(
            eventually { self.screen.contains("1:serial*") && self.screen.contains("snabbvm demo: ready") }, "\(screen)"
        )
        try tmux("send-keys", "C-b", "n")
        #expect(
            eventually { self.screen.contains("2:log*") && self.screen.contains("The launcher's log") }, "\(screen)")
        try end()
    }

    /// Neither detaching nor the end of tmux is the end of the machine.
    @Test func detachingAttachesAgain() throws {
        try launch()
        #expect(eventually { self.screen.contains("snabbvm demo: ready") }, "\(screen)")
        try tmux("send-keys", "C-b", "d")
        #expect(eventually { self.screen.contains("[test] 0:screen*") }, "\(screen)")
        let inner = "\(scratch.path)/run/test/tmux"
        #expect(try run("tmux", ["-S", inner, "kill-server"]).code == 0)
        #expect(
            eventually { self.screen.contains("[test] 0:screen*") && self.screen.contains("snabbvm demo: ready") },
            "\(screen)")
        try end()
    }

    @Test func consoleAttachesFromElsewhere() throws {
        let machine = try TestMachine(["demo"], in: scratch)
        #expect(machine.isUp(), "\(machine.errors)")
        let control = ["--name", "test", "--run-dir", "\(scratch.path)/run"]
        try start(["console"] + control)
        #expect(eventually { self.screen.contains("snabbvm demo: ready") }, "\(screen)")
        try tmux("send-keys", "C-b", "d")
        #expect(eventually { self.screen.contains("ended with 0") }, "\(screen)")
        try closeTerminal()
        // One stream alone, its past included; Control-] leaves.
        for stream in ["serial", "screen"] {
            try start(["console", stream] + control)
            #expect(eventually { self.screen.contains("snabbvm demo: ready") }, "\(stream): \(screen)")
            try tmux("send-keys", "C-]")
            #expect(eventually { self.screen.contains("ended with 0") }, "\(screen)")
            try closeTerminal()
        }
        #expect(machine.isRunning)
        #expect(try machine.ask("stop", "--now").code == 0)
    }

    @Test func aTerminalThatTmuxCannotUseShowsTheSerialConsole() throws {
        let words =
            TestMachine.options(scratch, name: "test") + [
                "--vnc", "off", "--accel", "tcg", "-m", "256", "--hugepages", "off", "demo",
            ]
        try tmux(
            "new-session", "-d", "-x", "100", "-y", "32",
            "TERM=nonsense \(([Parts.snabbvm] + words).map(\.shellQuoted).joined(separator: " ")); echo ended with $?; sleep 1000"
        )
        #expect(eventually { self.screen.contains("snabbvm demo: ready") }, "\(screen)")
        try end()
    }

    // MARK: VNC

    @Test(.enabled(if: Parts.has("vncsnapshot", "tesseract"), "vncsnapshot or tesseract-ocr is missing"))
    func vncShowsTheGuestsText() throws {
        let machine = try TestMachine(["demo"], in: scratch, vnc: "127.0.0.1:\(port)")
        #expect(machine.isUp(), "\(machine.errors)")
        let picture = "\(scratch.path)/screen.jpg"
        #expect(
            eventually(within: 60) { (try? self.snapshotText(picture, []))?.contains("demo machine") == true },
            "\((try? snapshotText(picture, [])) ?? "")")
        #expect(try machine.ask("stop", "--now").code == 0)
    }

    @Test(.enabled(if: Parts.has("vncsnapshot", "vncpasswd"), "vncsnapshot or vncpasswd is missing"))
    func vncAsksForThePassword() throws {
        let password = scratch.file("password", "s3cret\n")
        let machine = try TestMachine(
            ["--vnc-password-file", password, "demo"], in: scratch, vnc: "127.0.0.1:\(port)")
        #expect(machine.isUp(), "\(machine.errors)")
        #expect(try run("vncsnapshot", ["-quiet", display, "\(scratch.path)/no.jpg"]).code != 0)
        let right = "\(scratch.path)/right"
        #expect(try run("/bin/sh", ["-c", "echo s3cret | vncpasswd -f > '\(right)'"]).code == 0)
        #expect(
            try run("vncsnapshot", ["-quiet", "-passwd", right, display, "\(scratch.path)/yes.jpg"]).code == 0)
        // Not where others could read it.
        #expect(!machine.processes.joined().contains("s3cret"))
        #expect(!machine.errors.contains("s3cret"))
        #expect(try machine.ask("stop", "--now").code == 0)
    }

    private func snapshotText(_ picture: String, _ options: [String]) throws -> String {
        try run("vncsnapshot", ["-quiet", "-quality", "100"] + options + [display, picture])
        return try run("tesseract", [picture, "-", "--psm", "6"]).output
    }
}
