import CLinux
import CloudInit
import Glibc
import Host
import Images
import Model
import Planning
import Supervision
import System
import Values

/// Gets what the plan must know and the machine must have: takes locks, brings images, makes a folder for one that is still
/// coming. What it finds is complete as `Findings`, from which the plan follows.
struct Preparation {
    let plan: Plan
    let vncPassword: String?
    /// Still at work, where the machine boots before its image is all here.
    let fetch: ImageFetch?
    /// Kept open, so that nobody removes the image from the cache, or takes the same interface.
    let held: [HeldDescriptor]
    /// Watches over the machine's addresses as long as it is held.
    let addressGuard: AddressGuard?

    /// `ledger` is nil where nothing may be changed and so nothing be fetched.
    init(_ arguments: Arguments, _ loop: EventLoop, locks: NICLocks, ledger: Ledger?, log: Log) throws {
        var facts = try HostFacts.read(for: arguments)
        let user = try Preparation.lockUser(arguments, &facts, isTaken: ledger != nil)
        let folders = MachinePaths(arguments, uid: facts.privileges.uid)
        let finder = Preparation.imageFinder(arguments)
        let kept = try KeptState(folders, mayBeRunning: ledger == nil)
        let ports = try Preparation.lockPorts(arguments, &facts, locks: locks)
        guard let qemuImg = facts.tools.qemuImg else { throw Failure.missing("qemu-img", package: "qemu-utils") }

        // iproute2 and qemu-img work while the rest is read, and whoever has an address has time to say so.
        let network = try Preparation.startNetworkInspection(arguments, facts, loop)
        let wanted = try Preparation.image(arguments, finder, kept, folders, facts)
        let image = try Preparation.inspect(wanted, qemuImg, loop)
        let wantedCD = try arguments.cdrom.map { try Preparation.cdrom($0, arguments, finder, facts) }
        let cdrom = try Preparation.inspect(wantedCD, qemuImg, loop)
        facts.network = try network?.finish()
        // First the locks, then what is wished by what is there by then.
        let lockable = try Wishes(arguments, facts).interfaces
        let interfaces = ledger == nil ? [] : try Preparation.lock(lockable, &facts, loop)
        let wishes = try Wishes(arguments, facts)
        let hasPasst = try wishes.passt.map {
            try ledger == nil || Passt.works($0, as: facts.privileges.qemuUser, loop: loop)
        }
        let uuid = MachineIdentity.uuid(of: arguments.name, kept.record, hostKey: Preparation.hostKey)
        let searches = AddressSearch.all(wishes.guestNICs, facts, uuid: uuid)
        // In a dry run nothing is sent either.
        let mayAsk = ledger != nil && facts.privileges.has(.netRaw) && !searches.isEmpty
        addressGuard = mayAsk ? try AddressGuard(searches, loop: loop, log: log) : nil
        let kernel = try arguments.kernel.map { try finder.files.find($0, what: "kernel") }
        let initrd = try arguments.initrd.map { try finder.files.find($0, what: "initrd") }
        var seed = try SeedSources(arguments, files: finder.files)
        seed.warnings += kept.warnings
        let secretFile = try arguments.secretFile.map { try Preparation.secretFile($0, finder) }
        let vncPassword = try Preparation.vncPassword(arguments, finder)
        if (vncPassword?.utf8.count ?? 0) > 8 {
            seed.warnings.append("VNC looks at the first 8 characters of a password only")
        }
        let takenListeners = wishes.listeners.compactMap { address, udp in
            address.whyTaken(udp: udp).map { (address, $0.description) }
        }
        let diskSpace = Files.freeSpace(Files.existingPart(of: folders.disks))
        // Any other DHCP server's port is taken too, whatever interface it is for.
        let whyNoDHCP = wishes.joinsNetwork ? SocketAddress(host: "0.0.0.0", port: 67).whyTaken(udp: true) : nil
        let freeListener = hasPasst == nil ? nil : SocketAddress.freePort()
        let filters = try Preparation.startFilterCheck(ports.requests, facts.tools, arguments, loop)

        let (diskImage, cdImage) = (try image?.finish(), try cdrom?.finish())
        try filters?.finish(.usage, "use the ports'", "filters")
        let addresses = try addressGuard?.finish() ?? AddressGuard.expected(ledger == nil ? searches : [])
        let found = Findings(
            folders: folders, image: diskImage, cdrom: cdImage, kernel: kernel, initrd: initrd,
            privateFiles: [kernel, initrd].compactMap(\.self).filter { !Files.readableByAnyone($0) }, seed: seed,
            record: kept.record, hasKeptDisk: kept.hasDisk, hasKeptVariables: kept.hasVariables, secretFile: secretFile,
            hasVNCPassword: vncPassword != nil, diskSpace: diskSpace, addresses: addresses.free,
            holders: addresses.holders, isDHCPTaken: whyNoDHCP == Errno(code: EADDRINUSE), hasPasst: hasPasst ?? false,
            freeListener: freeListener, takenListeners: takenListeners, ports: ports.requests, portsFile: ports.file,
            programPath: Preparation.ownProgram, switchFolder: Preparation.switchFolder(arguments),
            hostName: NICMark.thisHost, hostKey: Preparation.hostKey)
        let fetches = Fetches(arguments: arguments, facts: facts, wishes: wishes, loop: loop, log: log)
        let (findings, fetch) = try fetches.bring(wanted?.request, wantedCD?.request, found, ledger)
        if folders.disksAreKept, ledger != nil, !arguments.copy, let image = findings.image {
            ImageCache.note(keeper: folders.disks, of: image.path)
        }
        self.fetch = fetch
        self.vncPassword = vncPassword
        held = try fetches.hold(findings.image, findings.cdrom) + interfaces + user
        plan = try MachinePlanner.plan(arguments, facts, wishes, findings)
    }

    /// What is asked for, with the locks of its NICs, and what of it is there.
    static func lockPorts(
        _ arguments: Arguments, _ facts: inout HostFacts, locks: NICLocks
    ) throws(Failure) -> (requests: [PortRequest], file: String?) {
        var requests = arguments.ports
        let file = try arguments.portsFile.map { name throws(Failure) in
            try FileFinder().find(name, what: "file of ports", kind: .usage)
        }
        if let file { requests = PortsFile.merge(requests, try PortsFile.read(file)) }
        if requests.isEmpty { return ([], file) }
        // First the locks, then the look: what is seen stays so.
        let addresses = Set(requests.compactMap(\.source.pciAddress))
        let busy = locks.take(addresses)
        try facts.addDevices(and: addresses)
        facts.nics = facts.nics?.map { nic in
            var nic = nic
            nic.isLocked = busy.contains(nic.address)
            return nic
        }
        return (requests, file)
    }

    static func switchFolder(_ arguments: Arguments) -> String { "\(shareFolder(arguments))/switch" }

    private static func startNetworkInspection(
        _ arguments: Arguments, _ facts: HostFacts, _ loop: EventLoop
    ) throws -> NetworkInspection? {
        guard Wishes.dependOnNetwork(arguments, facts) else { return nil }
        guard let ip = facts.tools.ip else {
            // What was not asked for need not be said to be missing.
            if arguments.net == nil, arguments.bridge == nil, arguments.nics.isEmpty { return nil }
            throw Failure.missing("ip", package: "iproute2")
        }
        return try NetworkInspection(ip, loop)
    }

    /// Nobody else who is in this network namespace, from whatever container, takes an interface of the machine.
    private static func lock(
        _ wanted: [String], _ facts: inout HostFacts, _ loop: EventLoop
    ) throws -> [HeldDescriptor] {
        guard facts.network?.isOwn == true, !wanted.isEmpty, let ip = facts.tools.ip else { return [] }
        let locks = try wanted.map { name in
            if let lock = try Failure.naming(.host, "lock", name, try NamespaceLock.take("interface \(name)")) {
                return lock
            }
            throw Failure(
                .busy, "use interface", name, "another machine in this network namespace has it",
                remedy: "use --net user, or another interface with --interface")
        }
        // What was seen before may have been changed by who had it until now.
        facts.network = try NetworkInspection(ip, loop).finish()
        return locks
    }

    /// A user of the machine's own, whom no other process is, and who is the same one at each start.
    private static func lockUser(
        _ arguments: Arguments, _ facts: inout HostFacts, isTaken: Bool
    ) throws -> [HeldDescriptor] {
        guard let users = facts.privileges.ownUsers else { return [] }
        for uid in users.inOrder(for: arguments.name) {
            facts.privileges.qemuUser = User(uid: uid, gid: uid)
            if !isTaken { return [] }
            let lock = try Failure.naming(.host, "lock", "user \(uid)", try NamespaceLock.take("user \(uid)"))
            if let lock { return [lock] }
        }
        throw Failure(
            .busy, "choose a user for", "machine \(arguments.name)", "other machines have those of \(users)",
            remedy: "give a wider range with --uid-range, or a user with --qemu-user")
    }

    static func imageFinder(_ arguments: Arguments) -> ImageFinder {
        let share = shareFolder(arguments)
        let home = Environment.current["XDG_CONFIG_HOME"] ?? Environment.current["HOME"].map { "\($0)/.config" }
        let catalogs = [
            "\(share)/images.json", "/etc/snabbvm/images.json", home.map { "\($0)/snabbvm/images.json" },
            "/u/images.json", arguments.catalog.map(Files.absolute),
        ]
        return ImageFinder(
            demoFolder: share, catalogs: catalogs.compactMap(\.self),
            cache: MachinePaths(arguments).images)
    }

    private static var ownProgram: String { (try? Files.resolved("/proc/self/exe")) ?? "/proc/self/exe" }

    /// Snabb itself says whether it understands a filter, before anything is touched.
    private static func startFilterCheck(
        _ ports: [PortRequest], _ tools: HostFacts.Tools, _ arguments: Arguments, _ loop: EventLoop
    ) throws -> Job? {
        let filters = ports.filter { $0.settings.engine ?? .snabb == .snabb }.flatMap {
            [$0.settings.filterIn, $0.settings.filterOut].compactMap(\.self)
        }
        guard !filters.isEmpty, let snabb = tools.snabb else { return nil }
        let command = Command(program: snabb, arguments: ["snsh", "\(switchFolder(arguments))/check.lua"] + filters)
        return try Job(command, in: loop, limit: .seconds(20), kind: .usage)
    }

    private static func inspect(
        _ location: ImageLocation?, _ qemuImg: String, _ loop: EventLoop
    ) throws -> ImageInspection? {
        guard case .disk(let path, let format) = location else { return nil }
        return try ImageInspection(path, format: format, qemuImg: qemuImg, loop: loop)
    }

    private static func cdrom(
        _ name: String, _ arguments: Arguments, _ finder: ImageFinder, _ facts: HostFacts
    ) throws(Failure) -> ImageLocation {
        guard ImageURL(name) != nil else { return .disk(try finder.files.find(name, what: "CD"), .iso) }
        var others = arguments
        (others.checksum, others.keyring, others.member, others.format) = (nil, nil, nil, .iso)
        // Those are for the image's server.
        others.web.headers = []
        return try finder.locate(name, others, facts)
    }

    /// The image to read. A kept disk knows what it stands on, which then need not be said again.
    private static func image(
        _ arguments: Arguments, _ finder: ImageFinder, _ state: KeptState, _ folders: MachinePaths, _ facts: HostFacts
    ) throws(Failure) -> ImageLocation? {
        let kept = state.hasDisk ? state.record : nil
        let base = kept?.isOverlay == true ? kept?.image : nil
        guard let name = arguments.image else {
            if kept == nil, arguments.kernel == nil, arguments.cdrom == nil {
                throw Failure(
                    .usage, "run", "a machine", "no IMAGE given, and no disk is kept in \(folders.disks)",
                    remedy: "give a disk image")
            }
            return try base.map { base throws(Failure) in
                guard let source = base.source else {
                    return .disk(try finder.files.find(base.path, what: "image"), base.format)
                }
                if let entry = ImageCache(folder: folders.images).entry(of: base) {
                    return .disk(entry.path, base.format)
                }
                throw Failure(
                    .image, "boot the disk in", folders.disks,
                    "it stands on an image of \(source), which is not all here, or was not before this host crashed",
                    remedy: "give that as IMAGE again")
            }
        }
        switch try finder.locate(name, arguments, facts) {
        case .disk(let path, let format): return .disk(path, format ?? (base?.path == path ? base?.format : nil))
        case .fetch(let request):
            // A disk stands on the image that there was when it was made, whatever is the latest now.
            if let base, request.means(base), let entry = ImageCache(folder: request.cache).entry(of: base) {
                return .disk(entry.path, base.format)
            }
            return .fetch(request)
        }
    }

    /// PREFIX/share/snabbvm for PREFIX/bin/snabbvm.
    private static func shareFolder(_ arguments: Arguments) -> String {
        arguments.shareFolder.map(Files.absolute)
            ?? ownProgram.split(separator: "/").dropLast(2).map { "/\($0)" }.joined() + "/share/snabbvm"
    }

    /// In a container the host name is the container's id, on a host the machine-id stays.
    static var hostKey: String {
        let tree = FileTree()
        return (tree.line("/etc/machine-id") ?? "") + (tree.line("/proc/sys/kernel/hostname") ?? "")
    }

    private static func secretFile(_ name: String, _ finder: ImageFinder) throws(Failure) -> String {
        let path = try finder.files.find(name, what: "secret file")
        if (try? Files.status(path))?.st_size == 0 { throw Failure(.image, "use", path, "it is empty") }
        return path
    }

    private static func vncPassword(_ arguments: Arguments, _ finder: ImageFinder) throws(Failure) -> String? {
        guard let name = arguments.vncPasswordFile else { return nil }
        if arguments.vnc == .off { throw Failure(.usage, "use", "--vnc-password-file", "VNC is off") }
        let path = try finder.files.find(name, what: "VNC password file", kind: .usage)
        let content = try Failure.naming(.usage, "read", path, try Files.read(path, limit: 4096))
        let password = String(decoding: content.prefix { $0 != 0x0a && $0 != 0x0d }, as: UTF8.self)
        if password.isEmpty { throw Failure(.usage, "use", path, "there is no password in it") }
        return password
    }
}
