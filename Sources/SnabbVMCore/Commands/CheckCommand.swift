import Host
import Model
import Planning
import System
import Values

/// `snabbvm check`: what a machine needs of this host, and how much of it is there.
enum CheckCommand {
    static func perform(_ arguments: Arguments) throws -> Int32 {
        var facts = try HostFacts.read(for: arguments)
        let folders = MachinePaths(arguments, uid: facts.privileges.uid)
        let ports = try Preparation.lockPorts(arguments, &facts, locks: NICLocks()).requests
        if ports.isEmpty { try facts.addDevices() }
        var findings = Findings(folders: folders)
        findings.ports = ports
        findings.switchFolder = Preparation.switchFolder(arguments)
        findings.hostName = NICMark.thisHost
        let loop = try EventLoop()
        facts.network = try facts.tools.ip.map { try NetworkInspection($0, loop).finish() }
        let check = Check(
            facts, versions: try versions(facts.tools, loop), memoryWanted: arguments.memory,
            freeSpace: Files.freeSpace(Files.existingPart(of: folders.disks)),
            scratch: folders.disks, whyUser: Wishes.whyNotBridged(facts),
            refusals: MachinePlanner.refusals(arguments, facts) + PortPlanner.refusals(arguments, facts, findings))
        if arguments.json {
            let (facts, lines) = (try JSON(encoding: facts), try JSON(encoding: check))
            print((["facts": facts, "check": lines, "fit": .bool(check.isFit)] as JSON).prettyText)
        } else {
            print(check.table)
        }
        return check.isFit ? 0 : FailureKind.host.rawValue
    }

    /// The first line of what each tool says of itself, all asked at once.
    private static func versions(_ tools: HostFacts.Tools, _ loop: EventLoop) throws -> [String: String] {
        let jobs = try Check.programs(tools).compactMap { name, path, option, _ in
            try path.map {
                let command = Command(program: $0, arguments: [option])
                return (name, try Job(command, in: loop, limit: .seconds(10), kind: .host))
            }
        }
        try loop.run { jobs.allSatisfy { $0.1.hasEnded } }
        return Dictionary(
            uniqueKeysWithValues: jobs.map { name, job in
                (name, String(decoding: job.output.prefix { $0 != 0x0a }, as: UTF8.self).trimmed)
            })
    }
}
