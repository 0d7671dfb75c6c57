import Glibc
import Host
import Model
import System
import Values

/// QEMU's process: how it ended, and its last words.
final class QEMUProcess {
    private(set) var pid: pid_t = 0
    private(set) var status: ExitStatus?
    private(set) var words: [String] = []

    init(
        _ command: Command, on terminal: borrowing Descriptor, loop: EventLoop, ledger: Ledger, log: Log,
        onExit: @escaping () -> Void
    ) throws {
        let (reading, writing) = try Descriptor.pipe()
        let reader = WordReader(reading, loop: loop) { [unowned self] line in
            if QEMUProcess.isAboutSwitches(line) { return log.verbose("qemu: \(line)") }
            words = words.suffix(9) + [line]
            log.note("qemu: \(line)")
        }
        let theirs = Descriptor(writing)
        log.verbose(command.shellText)
        pid = try command.start(
            in: loop, input: terminal.raw, output: terminal.raw, error: theirs.raw, terminal: .own, kind: .qemu
        ) { [self] in
            try reader.finish()
            status = $0
            onExit()
        }
        if let identity = ProcessIdentity(pid: pid) { try ledger.record([.process(name: "qemu", identity)]) }
    }

    /// What QEMU says when it waits for a switch, and when one dies, which the launcher tells better.
    private static func isAboutSwitches(_ line: String) -> Bool {
        [": info: QEMU waiting for connection", "Failed to set msg fds", " ring restore failed"].contains(
            where: line.contains)
    }

    func signal(_ number: Int32) { if status == nil { kill(pid, number) } }
}
