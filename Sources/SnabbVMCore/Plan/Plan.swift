/// What was found out about the user's files before the plan.
struct Inspected {
    var image: DiskImage?
    var cdrom: DiskImage?
    var kernel: String?
    var initrd: String?
    var seed = SeedSources()
    /// What an earlier start left in the --state folder.
    var record: MachineRecord?
    var hasKeptDisk = false
    var hasKeptVariables = false
    var hasVNCPassword = false
    /// What tells this host from others, for names that must differ between them.
    var hostKey = ""
    /// Ports that could not be had, and why.
    var takenPorts: [(port: SocketAddress, why: String)] = []
    /// Files that QEMU opens by name, and that only their owner may read.
    var privateFiles: [String] = []
    var diskSpace: ByteCount?
    var programPath = "/proc/self/exe"
}

/// What --state keeps beside the disk: who the machine is, and what its disk stands on.
struct MachineRecord: Codable, Equatable {
    var uuid: String
    var image: DiskImage?
    var diskFormat: DiskFormat?
    var diskSize: ByteCount?
    var isOverlay: Bool
}

/// All that will be done, decided before anything is done: pure, from what is asked and what is there.
struct Plan: Codable, Equatable {
    var name: String
    var uuid: String
    var folders: Folders
    /// Lines for the user: what is not as one might expect.
    var notes: [String] = []
    var accelerator: AcceleratorChoice
    var memory: MemoryPlan
    var cpus: Int
    var disks: [DiskPlan] = []
    var network: NetworkPlan?
    var vnc: SocketAddress?
    var firmware: Firmware
    var steps: [Step] = []
    var qemu: Command
    var tmux: Command?
    var stopTimeout: Double

    struct MemoryPlan: Codable, Equatable {
        var size: ByteCount
        var pageSize: ByteCount?
        var node: Int?
    }

    struct DiskPlan: Codable, Equatable {
        enum Role: String, Codable { case disk, cdrom, seed }
        var role: Role
        var path: String
        /// The image that it is an overlay on.
        var base: DiskImage?
        var format: DiskFormat
        var size: ByteCount?
    }

    struct NetworkPlan: Codable, Equatable {
        var mac: String
        var model: String
        var published: [PublishedPort]
        /// What QEMU's own DHCP server gives its first client.
        var expectedAddress: String
    }
}

extension Plan {
    init(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) throws(Failure) {
        guard let qemuProgram = facts.tools.qemu else {
            throw Plan.missing("QEMU (\(arguments.qemu))", package: "qemu-system-x86")
        }
        guard let qemuImg = facts.tools.qemuImg else { throw Plan.missing("qemu-img", package: "qemu-utils") }
        name = arguments.name
        folders = Folders(arguments, uid: facts.privileges.uid)
        cpus = arguments.cpus
        firmware = arguments.firmware
        stopTimeout = arguments.stopTimeout
        uuid = inspected.record?.uuid ?? Plan.stableUUID(name, inspected.hostKey)
        qemu = Command(program: qemuProgram, arguments: [])

        try Plan.checkPaths(folders)
        (accelerator, notes) = try Plan.accelerator(arguments, facts)
        memory = try Plan.memory(arguments, facts, notes: &notes)
        if cpus > facts.cpu.count {
            notes.append("\(cpus) virtual CPUs on a host with \(facts.cpu.count): they will wait for each other")
        }
        notes += inspected.seed.warnings
        vnc = Plan.vnc(arguments, facts, inspected, notes: &notes)
        network = try Plan.network(arguments, uuid: uuid)
        if let taken = inspected.takenPorts.first {
            throw Failure(
                .network, "listen on", "\(taken.port)", taken.why, remedy: "choose another with --vnc or --publish")
        }

        planFolders()
        try planDisks(arguments, facts, inspected, qemuImg: qemuImg)
        try planSeed(arguments, facts, inspected)
        planConsoles(arguments, facts, inspected)
        try finishQEMU(arguments, facts, inspected)
    }

    private static func missing(_ what: String, package: String) -> Failure {
        Failure(.host, "find", what, "it is not on PATH", remedy: "apt-get install \(package)")
    }

    private static func checkPaths(_ folders: Folders) throws(Failure) {
        let socket = folders.control
        guard socket.utf8.count > Folders.longestSocketPath else { return }
        throw Failure(
            .usage, "use", socket, "a socket's path can't be longer than \(Folders.longestSocketPath) bytes",
            remedy: "choose a shorter --name or --run-dir")
    }

    /// 128 bits that are the same at each start of this machine on this host, in the form of a random UUID.
    static func stableUUID(_ name: String, _ hostKey: String) -> String {
        let high = (stableDigest("uuid high", name, hostKey) & ~0xf000) | 0x4000
        let low = (stableDigest("uuid low", name, hostKey) & ~(0b11 << 62)) | (0b10 << 62)
        let text = hexadecimal(high, digits: 16) + hexadecimal(low, digits: 16)
        var parts: [String] = []
        var rest = text[...]
        for length in [8, 4, 4, 4, 12] {
            parts.append(String(rest.prefix(length)))
            rest = rest.dropFirst(length)
        }
        return parts.joined(separator: "-")
    }

    private static func accelerator(
        _ arguments: Arguments, _ facts: Facts
    ) throws(Failure) -> (AcceleratorChoice, notes: [String]) {
        let why: String
        switch facts.kvm.state {
        case .usable: return (arguments.accelerator == .tcg ? .tcg : .kvm, [])
        case .absent: why = "there is no /dev/kvm"
        case .notPermitted: why = "this user may not open /dev/kvm"
        case .cannotRunGuests:
            why = "/dev/kvm can't run ordinary guests here (\(facts.kvm.modules.joined(separator: ", ")) only)"
        }
        switch arguments.accelerator {
        case .tcg: return (.tcg, [])
        case .auto: return (.tcg, ["no hardware virtualisation, so the machine runs many times slower: \(why)"])
        case .kvm: throw Failure(.host, "use", "--accel kvm", why, remedy: "see snabbvm check, or use --accel tcg")
        }
    }

    private static func memory(
        _ arguments: Arguments, _ facts: Facts, notes: inout [String]
    ) throws(Failure) -> MemoryPlan {
        let wanted = arguments.memory
        guard wanted >= .mebibytes(16), wanted.bytes % (1 << 20) == 0 else {
            throw Failure(.usage, "use", "--memory \(wanted)", "it is not a whole number of MB, 16 at least")
        }
        if let plan = try hugepages(arguments, facts) { return plan }
        if arguments.hugepages == .auto {
            notes.append("no hugepages on this host, so the machine has ordinary memory")
        }
        let most = min(facts.memory.total, facts.memory.limit ?? facts.memory.total)
        if wanted > most {
            let whose = facts.memory.limit == nil ? "the host has" : "the container may use"
            throw Failure(
                .host, "give the machine", "\(wanted) of memory", "\(whose) \(most)",
                remedy: "ask for less with --memory")
        }
        if wanted > facts.memory.available {
            notes.append("the machine may come to use \(wanted), and \(facts.memory.available) are available now")
        }
        return MemoryPlan(size: wanted)
    }

    /// nil where ordinary memory is to be used.
    private static func hugepages(_ arguments: Arguments, _ facts: Facts) throws(Failure) -> MemoryPlan? {
        var pools = facts.hugepages
        switch arguments.hugepages {
        case .off: return nil
        case .auto:
            pools = pools.filter { $0.total > 0 }
            if pools.isEmpty { return nil }
        case .required: break
        case .size(let size): pools = pools.filter { $0.pageSize == size }
        }
        let wanted = arguments.memory
        let needed = { (pool: Facts.HugepagePool) in Int((wanted.bytes + pool.pageSize.bytes - 1) / pool.pageSize.bytes)
        }
        let fitting = pools.filter { wanted.bytes % $0.pageSize.bytes == 0 }
        // One node's memory serves best; the largest pages first, and then where most is free.
        let ranked = fitting.filter { $0.free >= needed($0) }.sorted {
            ($0.pageSize.bytes, $0.free) > ($1.pageSize.bytes, $1.free)
        }
        let nodes = Set(facts.hugepages.compactMap(\.node)).count
        if let best = ranked.first {
            return MemoryPlan(size: wanted, pageSize: best.pageSize, node: nodes > 1 ? best.node : nil)
        }
        for (size, pools) in Dictionary(grouping: fitting, by: \.pageSize.bytes).sorted(by: { $0.key > $1.key })
        where pools.map(\.free).reduce(0, +) >= needed(pools[0]) {
            return MemoryPlan(size: wanted, pageSize: ByteCount(size))
        }
        let counted = pools.filter { $0.total > 0 }
        let small = (counted.isEmpty ? pools : counted).min { $0.pageSize < $1.pageSize }
        let pageSize = small?.pageSize ?? .mebibytes(2)
        let pages = (wanted.bytes + pageSize.bytes - 1) / pageSize.bytes
        let free = pools.filter { $0.pageSize == pageSize }.map(\.free).reduce(0, +)
        throw Failure(
            .host, "give the machine", "\(wanted) in hugepages", "\(free) of \(pageSize) are free, \(pages) are needed",
            remedy: "reserve more (sysctl vm.nr_hugepages), ask for less with --memory, or use --hugepages off")
    }

    /// Where VNC listens. In a container the port is published or not by Docker; on a host it is for this host alone.
    static func defaultVNC(_ facts: Facts) -> SocketAddress {
        SocketAddress(host: facts.privileges.inContainer ? "0.0.0.0" : "127.0.0.1", port: 5901)
    }

    static func vncAddress(_ arguments: Arguments, _ facts: Facts) -> SocketAddress? {
        switch arguments.vnc {
        case .off: return nil
        case nil: return defaultVNC(facts)
        case .at(var address):
            if address.host.isEmpty { address.host = defaultVNC(facts).host }
            return address
        }
    }

    private static func vnc(
        _ arguments: Arguments, _ facts: Facts, _ inspected: Inspected, notes: inout [String]
    ) -> SocketAddress? {
        guard let address = vncAddress(arguments, facts) else { return nil }
        let isLocal = address.host.hasPrefix("127.") || address.host == "::1"
        if !isLocal, !inspected.hasVNCPassword {
            notes.append("VNC on \(address) has no password; give one with --vnc-password-file")
        }
        return address
    }

    private static func network(_ arguments: Arguments, uuid: String) throws(Failure) -> NetworkPlan? {
        guard arguments.net == .user else { return nil }
        if let six = arguments.published.first(where: { $0.address?.contains(":") == true }) {
            throw Failure(
                .network, "publish", "\(six)", "QEMU's user network forwards IPv4 only", remedy: "give an IPv4 address")
        }
        return NetworkPlan(
            mac: arguments.mac ?? macAddress(uuid, "eth0"), model: arguments.nicModel, published: arguments.published,
            expectedAddress: "10.0.2.15")
    }

    /// Locally administered, the same at each start, and another for each machine and port.
    static func macAddress(_ uuid: String, _ port: String) -> String {
        let digest = stableDigest("mac", uuid, port)
        let first = (UInt64(digest >> 40) & 0xfc) | 0x02
        let bytes = [first] + (0..<5).map { (digest >> (8 * UInt64($0))) & 0xff }
        return bytes.map { hexadecimal($0, digits: 2) }.joined(separator: ":")
    }

    // MARK: - Folders, disks and seed

    private mutating func planFolders() {
        steps.append(.folder(path: folders.base, mode: 0o755, isShared: true))
        // QEMU's user must pass through to its pipes; what is inside has modes of its own.
        steps.append(.folder(path: folders.run, mode: 0o711, isShared: false))
        if let scratch = folders.scratch { steps.append(.folder(path: scratch, mode: 0o755, isShared: true)) }
        steps.append(.folder(path: folders.disks, mode: 0o700, isShared: folders.disksAreKept))
    }

    private mutating func planDisks(
        _ arguments: Arguments, _ facts: Facts, _ inspected: Inspected, qemuImg: String
    ) throws(Failure) {
        let image = inspected.image
        if let image, image.format == .iso {
            let size = arguments.diskSize ?? .mebibytes(2048)
            try planDisk(on: nil, size: size, arguments, inspected, qemuImg: qemuImg, facts)
            disks.append(DiskPlan(role: .cdrom, path: image.path, format: .iso, size: image.virtualSize))
        } else if let image {
            if let size = arguments.diskSize, size < image.virtualSize {
                throw Failure(
                    .image, "use", "--disk-size \(size)", "the image has \(image.virtualSize), and disks only grow")
            }
            try planDisk(on: image, size: arguments.diskSize, arguments, inspected, qemuImg: qemuImg, facts)
        } else if let size = arguments.diskSize ?? (inspected.record?.diskSize) {
            try planDisk(on: nil, size: size, arguments, inspected, qemuImg: qemuImg, facts)
        }
        if let cdrom = inspected.cdrom {
            disks.append(DiskPlan(role: .cdrom, path: cdrom.path, format: .iso, size: cdrom.virtualSize))
        }
        if firmware == .uefi {
            guard let variables = facts.tools.firmwareVariables else {
                throw Failure(
                    .host, "use", "--firmware uefi", "there is no UEFI firmware", remedy: "apt-get install ovmf")
            }
            if !inspected.hasKeptVariables { try planCopy(variables, to: folders.firmwareVariables, facts) }
        }
        if folders.disksAreKept {
            let disk = disks.first { $0.role == .disk }
            let kept = MachineRecord(
                uuid: uuid, image: image, diskFormat: disk?.format, diskSize: disk?.size, isOverlay: disk?.base != nil)
            let text = (try? JSON(encoding: kept).prettyText) ?? ""
            steps.append(.file(path: folders.record, mode: 0o600, FileContent("\(text)\n")))
        }
    }

    private func planCopyCommand(_ from: String, to: String, _ facts: Facts) throws(Failure) -> Command {
        guard let cp = facts.tools.cp else { throw Plan.missing("cp", package: "coreutils") }
        return Command(program: cp, arguments: ["--reflink=auto", "--sparse=auto", "--no-preserve=mode", from, to])
    }

    private mutating func planCopy(_ from: String, to: String, _ facts: Facts) throws(Failure) {
        steps.append(.disk(path: to, [try planCopyCommand(from, to: Step.unfinished(to), facts)]))
    }

    /// The machine's own disk: an overlay on the image, a copy of it, or blank; or the one that --state kept.
    private mutating func planDisk(
        on image: DiskImage?, size: ByteCount?, _ arguments: Arguments, _ inspected: Inspected, qemuImg: String,
        _ facts: Facts
    ) throws(Failure) {
        let path = folders.disk
        let new = Step.unfinished(path)
        let total = size ?? image?.virtualSize
        if inspected.hasKeptDisk, let record = inspected.record, let format = record.diskFormat {
            if record.isOverlay { try Plan.checkUnchanged(record.image, now: inspected.image, folders) }
            if let size, let old = record.diskSize, size > old {
                let words = ["resize", "-q", "-f", format.rawValue, path, "\(size.bytes)"]
                steps.append(.run(Command(program: qemuImg, arguments: words)))
            } else if let size = arguments.diskSize, let old = record.diskSize, size < old {
                throw Failure(.image, "use", "--disk-size \(size)", "the kept disk has \(old), and disks only grow")
            }
            disks.append(
                DiskPlan(
                    role: .disk, path: path, base: record.isOverlay ? image : nil, format: format,
                    size: max(total ?? ByteCount(0), record.diskSize ?? ByteCount(0))))
            return
        }
        if arguments.copy, let image {
            if let free = inspected.diskSpace, free.bytes < image.fileSize {
                throw Failure(
                    .noSpace, "copy", image.path,
                    "\(folders.disks) has \(free) free, and it takes \(ByteCount(image.fileSize))",
                    remedy: "choose another place with --scratch or --state, or leave out --copy")
            }
            var commands = [try planCopyCommand(image.path, to: new, facts)]
            if let size, size > image.virtualSize {
                commands.append(
                    Command(
                        program: qemuImg,
                        arguments: ["resize", "-q", "-f", image.format.rawValue, new, "\(size.bytes)"]))
            }
            steps.append(.disk(path: path, commands))
            disks.append(DiskPlan(role: .disk, path: path, format: image.format, size: total))
            return
        }
        var words = ["create", "-q", "-f", "qcow2"]
        if let image { words += ["-b", image.path, "-F", image.format.rawValue] }
        words.append(new)
        if let size { words.append("\(size.bytes)") }
        steps.append(.disk(path: path, [Command(program: qemuImg, arguments: words)]))
        disks.append(DiskPlan(role: .disk, path: path, base: image, format: .qcow2, size: total))
    }

    /// An overlay holds only what differs: on another image, or a changed one, it is a broken disk.
    private static func checkUnchanged(_ before: DiskImage?, now: DiskImage?, _ folders: Folders) throws(Failure) {
        guard let before else { return }
        guard let now else {
            throw Failure(.image, "boot the disk in", folders.disks, "it stands on \(before.path), which was not given")
        }
        let same = before.fileSize == now.fileSize && before.modified == now.modified && before.format == now.format
        if same { return }
        throw Failure(
            .image, "boot the disk in", folders.disks,
            before.path == now.path
                ? "\(now.path) was changed since the disk was made on it"
                : "it was made on \(before.path), and \(now.path) is another image",
            remedy: "give the image as it was, or choose another --state folder")
    }

    private mutating func planSeed(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) throws(Failure) {
        if inspected.seed.isEmpty, arguments.hostname == nil { return }
        guard let xorriso = facts.tools.xorriso else { throw Plan.missing("xorriso", package: "xorriso") }
        let content = try SeedContent(
            inspected.seed, instanceID: uuid, hostname: arguments.hostname ?? name,
            setsHostname: arguments.hostname != nil)
        steps.append(.folder(path: folders.seedFiles, mode: 0o700, isShared: false))
        var grafts: [String] = []
        for (index, file) in content.files.enumerated() {
            // The same bytes stand in the disk twice; one staged file serves both.
            let first = content.files.firstIndex { $0.content == file.content } ?? index
            let staged = "\(folders.seedFiles)/\(first)"
            if first == index { steps.append(.file(path: staged, mode: 0o600, file.content)) }
            grafts.append("\(file.path)=\(staged)")
        }
        let options = [
            "-as", "mkisofs", "-quiet", "-no-pad", "-volid", arguments.seedLabel.rawValue, "-joliet", "-rock",
        ]
        steps.append(
            .seed(path: folders.seed, Command(program: xorriso, arguments: options + ["-graft-points"] + grafts)))
        disks.append(DiskPlan(role: .seed, path: folders.seed, format: .iso))
    }

    // MARK: - Consoles

    static let pipes = ["serial", "qmp", "agent"]

    private mutating func planConsoles(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) {
        let owner = qemuUser(facts, inspected)
        for name in Plan.pipes {
            for end in ["in", "out"] { steps.append(.pipe(path: "\(folders.pipe(name)).\(end)", owner: owner)) }
        }
        guard let tmuxProgram = facts.tools.tmux else {
            notes.append("no tmux, so the machine's screen can only be seen by VNC (apt-get install tmux)")
            return
        }
        let settings = TmuxSettings(name: name, program: inspected.programPath, base: folders.base, firmware: firmware)
        steps.append(.file(path: folders.tmuxSettings, mode: 0o600, FileContent(settings.text)))
        tmux = Command(
            program: tmuxProgram,
            arguments: ["-u", "-S", folders.tmuxSocket, "-f", folders.tmuxSettings]
                + ["start-server", ";", "display-message", "-p", "#{pid}"],
            environment: ["SHELL": "/bin/sh"])
    }

    /// As whom QEMU runs: without rights, unless what it needs is only for root.
    func qemuUser(_ facts: Facts, _ inspected: Inspected) -> User? {
        guard var user = facts.privileges.qemuUser, inspected.privateFiles.isEmpty else { return nil }
        if accelerator == .kvm, !facts.kvm.forAnyone {
            guard let group = facts.kvm.group else { return nil }
            user.groups.append(group)
        }
        let listens = (vnc.map { [$0.port] } ?? []) + (network?.published.map(\.host) ?? [])
        return listens.contains { $0 < facts.privileges.firstUnprivilegedPort } ? nil : user
    }

    private mutating func finishQEMU(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) throws(Failure) {
        qemu.user = qemuUser(facts, inspected)
        if facts.privileges.qemuUser != nil, qemu.user == nil {
            let why =
                inspected.privateFiles.first.map { "\($0) is not for others to read" } ?? "a port or /dev/kvm is root's"
            notes.append("QEMU runs as root, since \(why)")
        }
        qemu.environment = ["LC_ALL": "C.UTF-8", "TERM": "screen-256color", "HOME": "/nonexistent"]
        let command = QEMUArguments(self, arguments, facts, inspected)
        qemu.arguments = command.words
        qemu.files = command.files
    }
}

/// tmux's own settings: what a user of the old launcher knows, and the windows.
struct TmuxSettings {
    var name: String
    var program: String
    var base: String
    var firmware: Firmware

    var text: String {
        let relay = { (stream: StreamName) in
            "\(program.tmuxQuoted) relay \(stream.rawValue) --name \(name) --run-dir \(base.tmuxQuoted)"
        }
        let rest = [StreamName.serial, .log].map { "new-window -d -t =\(name): -n \($0.rawValue) \(relay($0))" }
        // UEFI draws pixels, which a terminal can't show; its serial console says the same.
        let first = firmware == .uefi ? ["select-window -t =\(name):serial"] : []
        return
            ([
                "set -g default-terminal screen-256color", "set -g history-limit 20000", "set -s escape-time 50",
                "set -g update-environment ''", "set -g window-size latest", "set -g mouse off",
                "set -g status-left '[#S] '", "set -g status-left-length 40", "set -g status-right-length 60",
                "set -g status-right 'C-b n next window, C-b [ scroll '",
                "set -g window-status-separator ' '", "set -g set-titles on",
                "set -g set-titles-string 'snabbvm #S: #W'",
                "new-session -d -x 80 -y 25 -s \(name) -n screen \(relay(.screen))",
            ] + rest + first).joined(separator: "\n") + "\n"
    }
}

extension String {
    fileprivate var tmuxQuoted: String {
        "'" + split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'"'"'"#) + "'"
    }
}
