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
        let findings = Findings(
            folders: folders, ports: ports, switchFolder: Preparation.switchFolder(arguments),
            hostName: NICMark.thisHost)
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

/// What `snabbvm check` says of the host: each line good, doubtful or missing, with the command that mends it.
struct Check: Codable, Equatable {
    enum Verdict: String, Codable { case ok, warning, missing }

    struct Line: Codable, Equatable {
        var verdict: Verdict
        var item: String
        var found: String
        var mend: String?
    }

    var lines: [Line] = []

    /// Whether a machine could start.
    var isFit: Bool { !lines.contains { $0.verdict == .missing } }

    var table: String {
        let width = lines.map(\.item.count).max() ?? 0
        return lines.map { line in
            let start = "\(line.verdict.rawValue.padded(to: 9))\(line.item.padded(to: width + 2))"
            let mend = line.mend.map { "\n" + String(repeating: " ", count: width + 11) + "→ \($0)" } ?? ""
            return start + line.found.oneLine + mend
        }.joined(separator: "\n")
    }

    /// `refusals` is what a start with the same options would be refused for; `whyUser` why eth0 would be on QEMU's user
    /// network, if it would.
    init(
        _ facts: HostFacts, versions: [String: String], memoryWanted: ByteCount, freeSpace: ByteCount?, scratch: String,
        whyUser: String?, refusals: [Failure] = []
    ) {
        addTools(facts.tools, versions)
        addProcessor(facts)
        addMemory(facts, wanted: memoryWanted)
        addIOMMU(facts)
        addNICs(facts)
        addNetwork(facts, whyUser: whyUser)
        addSpace(freeSpace, scratch)
        addPrivileges(facts.privileges)
        for failure in refusals {
            add(.missing, "a start", "cannot \(failure.operation) \(failure.subject): \(failure.cause)", failure.remedy)
        }
    }

    private mutating func add(_ verdict: Verdict, _ item: String, _ found: String, _ mend: String? = nil) {
        lines.append(Line(verdict: verdict, item: item, found: found, mend: mend))
    }

    /// The programs that a machine needs, with what makes them tell their version, and the packages of Debian.
    static func programs(_ tools: HostFacts.Tools) -> [(name: String, path: String?, option: String, package: String)] {
        [
            ("qemu", tools.qemu, "--version", "qemu-system-x86"),
            ("qemu-img", tools.qemuImg, "--version", "qemu-utils"),
            ("xorriso", tools.xorriso, "--version", "xorriso"), ("tmux", tools.tmux, "-V", "tmux"),
        ]
    }

    private mutating func addTools(_ tools: HostFacts.Tools, _ versions: [String: String]) {
        // A machine starts without them, if it has no seed disk and nobody looks at its windows.
        let dispensable = ["xorriso", "tmux"]
        for (name, path, _, package) in Check.programs(tools) {
            if let path {
                add(.ok, name, "\(versions[name] ?? "version unknown") (\(path))")
            } else {
                add(dispensable.contains(name) ? .warning : .missing, name, "not on PATH", "apt-get install \(package)")
            }
        }
        if let code = tools.firmwareCode {
            add(.ok, "UEFI firmware", code)
        } else {
            add(.warning, "UEFI firmware", "none, so --firmware uefi can't be used", "apt-get install ovmf")
        }
    }

    private mutating func addProcessor(_ facts: HostFacts) {
        let cpus = "\(facts.cpu.model), \(facts.cpu.count) processors"
        add(.ok, "CPU", facts.cpu.isSandyBridge ? "\(cpus) (Sandy Bridge: its IOMMU must be off for NIC ports)" : cpus)
        let modules = facts.kvm.modules.joined(separator: ", ")
        switch facts.kvm.state {
        case .usable: add(.ok, "KVM", "/dev/kvm is usable (\(modules))")
        case .absent:
            add(
                .warning, "KVM", "no /dev/kvm: machines run in software, many times slower",
                facts.privileges.inContainer
                    ? "docker run --device /dev/kvm …" : "modprobe kvm_intel || modprobe kvm_amd")
        case .notPermitted:
            add(.warning, "KVM", "/dev/kvm may not be opened by this user", "usermod -aG kvm $USER, then log in again")
        case .cannotRunGuests:
            add(
                .warning, "KVM", "/dev/kvm opens, but can't run ordinary guests (modules: \(modules)): software it is",
                "run on a host whose CPU has virtualisation switched on (kvm_intel or kvm_amd)")
        }
    }

    private mutating func addMemory(_ facts: HostFacts, wanted: ByteCount) {
        let memory = facts.memory
        let limit = memory.limit.map { ", container limit \($0)" } ?? ""
        add(.ok, "memory", "\(memory.available) of \(memory.total) available\(limit)")
        let pools = facts.hugepages.filter { $0.total > 0 }
        if pools.isEmpty {
            let pages = (wanted.bytes + (2 << 20) - 1) >> 21
            add(
                .warning, "hugepages", "none: ordinary memory is used; NIC ports need hugepages",
                "sysctl vm.nr_hugepages=\(pages), or for good hugepages=\(pages) in GRUB_CMDLINE_LINUX")
        }
        for pool in pools {
            let place = pool.node.map { " on node \($0)" } ?? ""
            let free = ByteCount(UInt64(pool.free) * pool.pageSize.bytes)
            add(
                free >= wanted ? .ok : .warning, "hugepages",
                "\(pool.free) of \(pool.total) of \(pool.pageSize) free\(place) (\(free); a machine of \(wanted) is asked for)"
            )
        }
        if !facts.hugetlbfs.isEmpty { add(.ok, "hugetlbfs", facts.hugetlbfs.joined(separator: ", ")) }
    }

    private mutating func addIOMMU(_ facts: HostFacts) {
        guard let iommu = facts.iommu else { return }
        let asked = iommu.asked.isEmpty ? "" : " (kernel command line: \(iommu.asked.joined(separator: " ")))"
        if iommu.units.isEmpty && iommu.groups.isEmpty { return add(.ok, "IOMMU", "off" + asked) }
        let types = Dictionary(grouping: iommu.groups, by: \.type).map { "\($0.value.count) \($0.key)" }.sorted()
        let found = "\(iommu.units.count) units; groups: " + types.joined(separator: ", ") + asked
        if facts.cpu.isSandyBridge, iommu.isTranslating {
            return add(
                .warning, "IOMMU", found + "; on Sandy Bridge NIC ports need it off",
                "intel_iommu=off in GRUB_CMDLINE_LINUX")
        }
        add(.ok, "IOMMU", found)
    }

    private mutating func addNICs(_ facts: HostFacts) {
        guard let nics = facts.nics else { return }
        let good = nics.filter { $0.snabbDriver != nil }
        if good.isEmpty { return add(.ok, "NICs for ports", "none of \(nics.count) PCI network cards") }
        for nic in good {
            let node = nic.numaNode.map { ", node \($0)" } ?? ""
            let user = [nic.driver, nic.interfaces.first].compactMap(\.self).joined(separator: " as ")
            add(
                .ok, "NIC \(nic.address)",
                "\(nic.name), Snabb's \(nic.snabbDriver ?? "")\(node)" + (user.isEmpty ? "" : ", now \(user)"))
        }
    }

    private mutating func addNetwork(_ facts: HostFacts, whyUser: String?) {
        if let whyUser { return add(.ok, "network", "--net user, since \(whyUser)") }
        let uplink = facts.network?.uplink
        let addresses = uplink?.ownAddresses.map(\.address.description) ?? []
        add(.ok, "network", "--net bridge with \(uplink?.name ?? "eth0") (\(addresses.joined(separator: ", ")))")
    }

    private mutating func addSpace(_ free: ByteCount?, _ scratch: String) {
        guard let free else { return add(.warning, "disk space", "unknown for \(scratch)") }
        let enough = free >= .mebibytes(1024)
        add(
            enough ? .ok : .warning, "disk space", "\(free) free for \(scratch)",
            enough ? nil : "choose another place with --scratch")
    }

    private mutating func addPrivileges(_ privileges: HostFacts.Privileges) {
        let place = privileges.inContainer ? "in a container" : "on a host"
        if privileges.uid == 0 {
            add(.ok, "user", "root, \(place)" + (privileges.qemuUser == nil ? "" : "; QEMU runs without its rights"))
        } else {
            add(.ok, "user", "uid \(privileges.uid), \(place): enough without NIC ports and bridges")
        }
    }
}
