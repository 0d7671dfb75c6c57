import CLinux
import Glibc
import Host
import Images
import Model
import Planning
import Supervision
import System
import Values

/// The whole story: what was asked, what is there, what will be done, doing it, and giving everything back.
public enum Launcher {
    public static func main() -> Never {
        EventLoop.holdSignals()
        var log = Log(verbosity: .normal, json: CommandLine.arguments.contains("--json"))
        do {
            let words = Array(CommandLine.arguments.dropFirst())
            Secrets.hide()
            let arguments = try Parser.parse(words, environment: Environment.current)
            log = Log(verbosity: arguments.verbosity, json: arguments.json)
            exit(try perform(arguments, log))
        } catch {
            let failure = Failure.from(error, "go on", "")
            log.failure(failure)
            exit(failure.kind.rawValue)
        }
    }

    private static func perform(_ arguments: Arguments, _ log: Log) throws -> Int32 {
        // Only who has changed something, or holds the terminal, must not be ended by a signal.
        let mayBeInterrupted = ![.run, .demo, .relay, .disk].contains(arguments.verb) && arguments.operand == nil
        if mayBeInterrupted || arguments.dryRun { EventLoop.holdSignals(false) }
        switch arguments.verb {
        case .run, .demo: return try arguments.dryRun ? dryRun(arguments, log) : launch(arguments, log)
        case .images: return try ImagesCommand.perform(arguments, log)
        case .fetch: return try FetchWorker.run()
        case .digest: return try DigestWorker.run(arguments.operand ?? "")
        case .unpack: return try Unpacker.run(arguments.operand ?? "")
        case .disk: return try DiskCommand.perform(arguments, log)
        case .check: return try CheckCommand.perform(arguments)
        case .nics: return try NICsCommand.perform(arguments)
        case .status: return try StatusCommand.perform(arguments)
        case .ports: return try PortsCommand.perform(arguments)
        case .stop: return try StopCommand.perform(arguments)
        case .console: return try ConsoleCommand.perform(arguments)
        case .ssh: return try SSHCommand.perform(arguments, log)
        case .relay:
            try Relay.run(arguments.operand ?? StreamName.serial.rawValue, of: ControlClient(arguments), escape: nil)
        case .release: return try ReleaseCommand.perform(arguments, log)
        case .completion: print(Completion(rawValue: arguments.operand ?? "")?.script ?? "")
        case .manual: print(Manual.text)
        case .help: print(Help.text)
        case .version: print("snabbvm \(Version.text)")
        }
        return 0
    }

    private static func dryRun(_ arguments: Arguments, _ log: Log) throws -> Int32 {
        let plan = try Preparation(arguments, EventLoop(), locks: NICLocks(), ledger: nil, log: log).plan
        print(arguments.json ? try JSON(encoding: plan).prettyText : plan.shellText)
        return 0
    }

    /// One machine, from the plan to the host as it was before.
    private static func launch(_ arguments: Arguments, _ log: Log) throws -> Int32 {
        let loop = try EventLoop()
        loop.onSignal = { _ in throw Interruption() }
        // tmux's server makes itself a daemon; it stays in sight all the same.
        clinux_adopt_orphans()
        // Disks hold what their guests hold.
        umask(0o077)
        let folders = MachinePaths(arguments)
        let ledger = try Ledger(folders.ledger)
        var ending: Ending
        var machine: Machine?
        var stateLock: Descriptor?
        // The preparation has locks and a guard of addresses that the machine needs as long as it lives.
        var held: Preparation?
        // Held until the NICs are back.
        let locks = NICLocks()
        do {
            if ledger.hasLeftovers { try clear(ledger, log) }
            stateLock = try folders.lockState(ledger)
            let preparation = try Preparation(arguments, loop, locks: locks, ledger: ledger, log: log)
            held = preparation
            let plan = preparation.plan
            for note in plan.notes { log.note(note) }
            try EffectMaker.make(plan.effects, ledger: ledger, loop: loop, folders: folders, log: log)
            let started = try Machine(
                plan, loop: loop, ledger: ledger, log: log, vncPassword: preparation.vncPassword,
                fetch: preparation.fetch,
                hasTerminal: isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1)
            machine = started
            ending = try started.run()
        } catch is Interruption {
            ending = .stopped
        } catch {
            ending = .failed(.from(error, "go on", ""))
        }
        let (code, line) = end(ending, machine, ledger, loop, arguments, log)
        // Whoever waits for the end may start it again at once.
        _ = consume stateLock
        withExtendedLifetime(held) {}
        locks.release()
        machine?.tellEnd(line, code: code)
        return code
    }

    /// A signal before the machine was up.
    private struct Interruption: Error {}

    /// Finds what an earlier launcher left when it was killed, and gives it back first.
    private static func clear(_ ledger: Ledger, _ log: Log) throws {
        let hasProcess = { ledger.changes.contains { if case .process = $0 { true } else { false } } }
        if hasProcess() { log.note("giving back what a killed launcher left") }
        let failures = ledger.unwind(keepingName: true)
        // What others put into a folder of ours is no obstacle; a process that still has the disk is.
        if hasProcess(), let failure = failures.first { throw failure }
        // What can't be read may be a NIC, or this machine's disk.
        if let failure = ledger.unreadableFailure { throw failure }
        for failure in failures { log.warning(failure.line) }
    }

    /// Gives everything back, then says how it was: the first cause first, whatever happens while cleaning up.
    private static func end(
        _ ending: Ending, _ machine: Machine?, _ ledger: Ledger, _ loop: EventLoop, _ arguments: Arguments, _ log: Log
    ) -> (code: Int32, line: String) {
        // From here on there is nothing left to hurry.
        loop.onSignal = { _ in }
        let uptime = Elapsed.duration(machine?.uptime ?? 0)
        var leftovers: [Failure] = []
        do {
            try machine?.close()
            // A copy that was broken off must not write on while its file is removed.
            try loop.endChildren()
        } catch {
            leftovers.append(.from(error, "go on", ""))
        }
        leftovers += ledger.unwind().filter { ending != .failed($0) }
        var code: Int32 = 0
        var line: String
        switch ending {
        case .poweredOff: line = "machine \(arguments.name) powered off after \(uptime)"
        case .stopped where machine == nil: line = "stopped before machine \(arguments.name) was started"
        case .stopped: line = "machine \(arguments.name) was stopped after \(uptime)"
        case .cutOff:
            line =
                "machine \(arguments.name) was cut off after \(uptime): its guest did not power off within "
                + "\(Int(arguments.stopTimeout)) s; give it longer with --stop-timeout"
            code = FailureKind.guestCutOff.rawValue
        case .failed(let failure):
            line = failure.line
            code = failure.kind.rawValue
        }
        if case .failed(let failure) = ending { log.failure(failure) } else { log.note(line) }
        for failure in leftovers { log.failure(failure) }
        if code == 0, !leftovers.isEmpty { code = FailureKind.cleanup.rawValue }
        return (code, line)
    }
}
