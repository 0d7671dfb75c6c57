import CLinux
import Glibc

/// Everything that is only looked at: the host, the user's files; and the plan made from it.
struct Preparation {
    let plan: Plan
    let vncPassword: String?

    init(_ arguments: Arguments, _ loop: EventLoop, locks: NICLocks) throws {
        var facts = try Facts.read(for: arguments, searchPath: Environment.current["PATH"] ?? "")
        let folders = Folders(arguments, uid: facts.privileges.uid)
        var inspected = Inspected(folders: folders)
        inspected.programPath = Preparation.ownProgram
        let finder = ImageFinder(demoFolder: Preparation.shareFolder(arguments))

        try Preparation.readState(folders, into: &inspected)
        try Preparation.readPorts(arguments, &facts, into: &inspected, locks: locks)
        guard let qemuImg = facts.tools.qemuImg else { throw Plan.missing("qemu-img", package: "qemu-utils") }

        // qemu-img works while the rest is read.
        let image = try Preparation.image(arguments, finder, inspected).map { path, format in
            try ImageInspection(path, format: format, qemuImg: qemuImg, loop: loop)
        }
        let cdrom = try arguments.cdrom.map {
            try ImageInspection(
                try finder.find($0, what: "CD", kind: .image), format: .iso, qemuImg: qemuImg, loop: loop)
        }
        inspected.kernel = try arguments.kernel.map { try finder.find($0, what: "kernel") }
        inspected.initrd = try arguments.initrd.map { try finder.find($0, what: "initrd") }
        inspected.privateFiles = [inspected.kernel, inspected.initrd].compactMap(\.self).filter {
            !Files.readableByAnyone($0)
        }
        inspected.seed = try SeedSources(arguments, images: finder)
        inspected.hostKey = Preparation.hostKey
        vncPassword = try Preparation.vncPassword(arguments, finder, &inspected.seed.warnings)
        inspected.hasVNCPassword = vncPassword != nil
        inspected.takenPorts = Preparation.takenPorts(arguments, facts)
        inspected.diskSpace = Files.freeSpace(Files.existingPart(of: folders.disks))

        let filters = try Preparation.startFilterCheck(inspected, facts.tools, loop)

        inspected.image = try image?.finish()
        inspected.cdrom = try cdrom?.finish()
        try filters?.finish(.usage, "use the ports'", "filters")
        plan = try Plan(arguments, facts, inspected)
    }

    /// What is asked for, and what of it is there.
    static func readPorts(
        _ arguments: Arguments, _ facts: inout Facts, into inspected: inout Inspected, locks: NICLocks
    ) throws(Failure) {
        let share = shareFolder(arguments)
        inspected.switchFolder = "\(share)/switch"
        inspected.hostName = PortMark.thisHost
        if let name = arguments.portsFile {
            inspected.portsFile = try ImageFinder(demoFolder: share).find(name, what: "file of ports", kind: .usage)
        }
        inspected.ports = arguments.ports
        if let path = inspected.portsFile {
            inspected.ports = PortsFile.merge(arguments.ports, try PortsFile.read(path))
        }
        if inspected.ports.isEmpty { return }
        // First the locks, then the look: what is seen stays so.
        let addresses = Set(inspected.ports.compactMap(\.source.pciAddress))
        let busy = locks.take(addresses)
        try facts.addDevices(and: addresses)
        facts.nics = facts.nics?.map { nic in
            var nic = nic
            nic.isLocked = busy.contains(nic.address)
            return nic
        }
    }

    private static var ownProgram: String { (try? Files.resolved("/proc/self/exe")) ?? "/proc/self/exe" }

    /// Snabb itself says whether it understands a filter, before anything is touched.
    private static func startFilterCheck(
        _ inspected: Inspected, _ tools: Facts.Tools, _ loop: EventLoop
    ) throws -> Job? {
        let filters = inspected.ports.filter { $0.settings.engine ?? .snabb == .snabb }.flatMap {
            [$0.settings.filterIn, $0.settings.filterOut].compactMap(\.self)
        }
        guard !filters.isEmpty, let snabb = tools.snabb else { return nil }
        let command = Command(
            program: snabb, arguments: ["snsh", "\(inspected.switchFolder)/check.lua"] + filters)
        return try Job(command, in: loop, limit: .seconds(20), kind: .usage)
    }

    /// The image to read. A kept disk knows what it stands on, which then need not be said again.
    private static func image(
        _ arguments: Arguments, _ finder: ImageFinder, _ inspected: Inspected
    ) throws(Failure) -> (path: String, format: DiskFormat?)? {
        let kept = inspected.hasKeptDisk ? inspected.record : nil
        let base = kept?.isOverlay == true ? kept?.image : nil
        guard let name = arguments.image else {
            if kept == nil, arguments.kernel == nil, arguments.cdrom == nil {
                throw Failure(
                    .usage, "run", "a machine", "no IMAGE given, and no disk is kept in \(inspected.folders.disks)",
                    remedy: "give a disk image")
            }
            return try base.map { base throws(Failure) in (try finder.find(base.path, what: "image"), base.format) }
        }
        let path = name == "demo" ? try finder.demo() : try finder.find(name, what: "image")
        return (path, arguments.format ?? (base?.path == path ? base?.format : nil))
    }

    /// PREFIX/share/snabbvm for PREFIX/bin/snabbvm.
    private static func shareFolder(_ arguments: Arguments) -> String {
        arguments.shareFolder.map(Files.absolute)
            ?? ownProgram.split(separator: "/").dropLast(2).map { "/\($0)" }.joined() + "/share/snabbvm"
    }

    /// In a container the host name is the container's id, on a host the machine-id stays.
    private static var hostKey: String {
        let tree = FileTree()
        return (tree.line("/etc/machine-id") ?? "") + (tree.line("/proc/sys/kernel/hostname") ?? "")
    }

    private static func vncPassword(
        _ arguments: Arguments, _ finder: ImageFinder, _ warnings: inout [String]
    ) throws(Failure) -> String? {
        guard let name = arguments.vncPasswordFile else { return nil }
        if arguments.vnc == .off { throw Failure(.usage, "use", "--vnc-password-file", "VNC is off") }
        let path = try finder.find(name, what: "VNC password file", kind: .usage)
        let content: [UInt8]
        do throws(Errno) { content = try Files.read(path, limit: 4096) } catch {
            throw Failure(.usage, "read", path, error)
        }
        let password = String(decoding: content.prefix { $0 != 0x0a && $0 != 0x0d }, as: UTF8.self)
        if password.isEmpty { throw Failure(.usage, "use", path, "there is no password in it") }
        if password.utf8.count > 8 { warnings.append("VNC looks at the first 8 characters of a password only") }
        return password
    }

    private static func takenPorts(_ arguments: Arguments, _ facts: Facts) -> [(port: SocketAddress, why: String)] {
        var wanted = (Plan.vncAddress(arguments, facts).map { [($0, false)] }) ?? []
        if arguments.net == .user {
            wanted += arguments.published.map { (SocketAddress(host: $0.address ?? "0.0.0.0", port: $0.host), $0.udp) }
        }
        return wanted.compactMap { address, udp in
            guard let error = address.whyTaken(udp: udp) else { return nil }
            return (address, error.description)
        }
    }

    private static func readState(_ folders: Folders, into inspected: inout Inspected) throws(Failure) {
        guard folders.disksAreKept else {
            // Here everything is removed at the end: nothing that somebody keeps may be in it.
            if access(folders.record, F_OK) != 0 { return }
            throw Failure(
                .image, "use", folders.disks, "a machine's disk is kept there",
                remedy: "boot it with --state \(folders.disks), or choose another place with --scratch or --name")
        }
        inspected.hasKeptDisk = access(folders.disk, F_OK) == 0
        inspected.hasKeptVariables = access(folders.firmwareVariables, F_OK) == 0
        if let text = FileTree().text(folders.record) {
            do { inspected.record = try JSON(parsing: text).decode(MachineRecord.self) } catch {
                throw Failure(.image, "read", folders.record, "\(error)", remedy: "choose another --state folder")
            }
        } else if inspected.hasKeptDisk {
            throw Failure(
                .image, "boot", folders.disk, "there is no machine.json beside it that says what it stands on",
                remedy: "choose another --state folder")
        }
    }
}
