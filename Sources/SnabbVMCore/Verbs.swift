import CLinux
import Glibc

/// The commands beside the launch itself.
enum Verbs {
    static func check(_ arguments: Arguments) throws -> Int32 {
        let searchPath = Environment.current["PATH"] ?? ""
        var facts = try Facts.read(for: arguments, searchPath: searchPath)
        let folders = Folders(arguments, uid: facts.privileges.uid)
        var inspected = Inspected(folders: folders)
        try Preparation.readPorts(arguments, &facts, into: &inspected, locks: NICLocks())
        if inspected.ports.isEmpty { try facts.addDevices() }
        let loop = try EventLoop()
        facts.network = try facts.tools.ip.map { try NetworkInspection($0, loop).finish() }
        let check = Check(
            facts, versions: try versions(facts.tools), memoryWanted: arguments.memory,
            freeSpace: Files.freeSpace(Files.existingPart(of: folders.disks)),
            scratch: folders.disks, whyUser: Plan.whyNotBridged(facts),
            refusals: Plan.refusals(arguments, facts) + Plan.portRefusals(arguments, facts, inspected))
        if arguments.json {
            print(
                (["facts": try JSON(encoding: facts), "check": try JSON(encoding: check), "fit": .bool(check.isFit)]
                    as JSON).prettyText)
        } else {
            print(check.table)
        }
        return check.isFit ? 0 : FailureKind.host.rawValue
    }

    /// The first line of what each tool says of itself, all asked at once.
    private static func versions(_ tools: Facts.Tools) throws -> [String: String] {
        let loop = try EventLoop()
        let asked: [(name: String, path: String?, word: String)] = [
            ("qemu", tools.qemu, "--version"), ("qemu-img", tools.qemuImg, "--version"),
            ("xorriso", tools.xorriso, "--version"), ("tmux", tools.tmux, "-V"),
        ]
        let jobs = try asked.compactMap { asked in
            try asked.path.map {
                let command = Command(program: $0, arguments: [asked.word])
                return (asked.name, try Job(command, in: loop, limit: .seconds(10), kind: .host))
            }
        }
        try loop.run { jobs.allSatisfy { $0.1.hasEnded } }
        return Dictionary(
            uniqueKeysWithValues: jobs.map { name, job in
                (name, String(decoding: job.output.prefix { $0 != 0x0a }, as: UTF8.self).trimmed)
            })
    }

    static func status(_ arguments: Arguments) throws -> Int32 {
        if arguments.health { return health(arguments) }
        let answer = try ControlClient(arguments).ask(["verb": "status"])
        print(arguments.json ? answer.prettyText : try answer.decode(MachineStatus.self).text)
        return 0
    }

    /// For probes, which know two answers: 0 and 1, with one line that they keep.
    private static func health(_ arguments: Arguments) -> Int32 {
        do {
            let status = try ControlClient(arguments).ask(["verb": "status"]).decode(MachineStatus.self)
            print(status.problem ?? "machine \(status.name) is \(status.state)")
            return status.problem == nil ? 0 : 1
        } catch {
            print((error as? Failure)?.line ?? "\(error)")
            return 1
        }
    }

    static func ports(_ arguments: Arguments) throws -> Int32 {
        let client = try ControlClient(arguments)
        while true {
            let answer = try client.ask(["verb": "ports"])
            let ports = try answer.decode([PortStatus].self)
            if arguments.json {
                print(arguments.watch ? answer.text : answer.prettyText)
            } else {
                // In place, where there is a screen.
                let home = arguments.watch && isatty(STDOUT_FILENO) == 1 ? "\u{1b}[H\u{1b}[J" : ""
                print(
                    home + (ports.isEmpty ? "machine \(client.folders.name) has no NIC ports" : PortStatus.table(ports))
                )
            }
            fflush(nil)
            if !arguments.watch { return 0 }
            sleep(1)
        }
    }

    static func stop(_ arguments: Arguments) throws -> Int32 {
        let answer = try ControlClient(arguments).ask(["verb": "stop", "now": .bool(arguments.now)])
        let code = Int32(answer["code"]?.integer ?? 1)
        if arguments.json {
            print(answer.text)
        } else if arguments.verbosity > .quiet {
            print(answer["ended"]?.string ?? "")
        }
        return code
    }

    /// Becomes a tmux client; or shows one stream.
    static func console(_ arguments: Arguments) throws -> Int32 {
        let client = try ControlClient(arguments)
        if let stream = arguments.operand {
            try Relay(client: client, stream: stream, escape: 0x1d).run()
            return 0
        }
        guard let tmux = Files.findProgram("tmux", path: Environment.current["PATH"] ?? "") else {
            throw Failure(
                .host, "show", "the console", "tmux is not on PATH",
                remedy: "apt-get install tmux, or name a stream: console serial")
        }
        guard isatty(STDIN_FILENO) == 1 else {
            throw Failure(.usage, "show", "the console", "this is no terminal", remedy: "name a stream: console serial")
        }
        if let problem = try client.ask(["verb": "console"])["error"]?.string {
            throw Failure(.host, "show", "the console", problem, remedy: "name a stream: console serial")
        }
        signal(SIGPIPE, SIG_DFL)
        unsetenv("TMUX")
        let words = CStrings([
            tmux, "-u", "-N", "-S", client.folders.tmuxSocket, "attach-session", "-t", "=\(client.folders.tmuxSession)",
        ])
        execv(tmux, words.pointer)
        throw Failure(.host, "start", tmux, Errno.last)
    }

    static func relay(_ arguments: Arguments) throws -> Int32 {
        let stream = arguments.operand ?? StreamName.serial.rawValue
        try Relay(client: try ControlClient(arguments), stream: stream, escape: nil).run()
        return 0
    }
}
