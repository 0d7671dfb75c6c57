import CLinux
import Glibc
import Model
import System
import Values

extension HostFacts {
    /// Reads what each start needs: some twenty small files.
    package static func read(for arguments: Arguments) throws(Failure) -> HostFacts {
        let tree = FileTree()
        return HostFacts(
            cpu: CPU(tree), kvm: KVM(tree), memory: Memory(tree), hugepages: HugepagePool.all(tree),
            hugetlbfs: HugepagePool.mounts(tree),
            privileges: try Privileges(tree, qemuUser: arguments.qemuUser, range: arguments.uidRange),
            tools: Tools(tree, qemu: arguments.qemu))
    }

    /// Reads also what ports are made of.
    package mutating func addDevices(and others: Set<PCIAddress> = []) throws(Failure) {
        let tree = FileTree()
        iommu = IOMMU(tree)
        nics = try NIC.all(tree, and: others)
        interfaces = Interface.all(tree)
        topology = Topology(tree)
        pciAccess = PCIAccess(tree, privileges)
    }
}

extension HostFacts.CPU {
    package init(_ tree: FileTree) {
        let lines = tree.lines("/proc/cpuinfo")
        let fields = FileTree.fields(lines)
        let count = lines.count { $0.hasPrefix("processor") }
        let isSandyBridge =
            fields["vendor_id"] == "GenuineIntel" && fields["cpu family"] == "6"
            && ["42", "45"].contains(fields["model"])
        self.init(model: fields["model name"] ?? "unknown", count: max(count, 1), isSandyBridge: isSandyBridge)
    }
}

extension HostFacts.KVM {
    private static let device = "/dev/kvm"

    /// The device alone says little: with the pvm module it opens, and an ordinary guest kernel hangs at boot.
    package init(_ tree: FileTree) {
        self.init(state: .absent)
        modules = tree.names("/sys/module").filter { $0.hasPrefix("kvm") }
        guard let status = try? Files.status(tree.path(Self.device)) else { return }
        if status.st_mode & 0o060 == 0o060 { group = status.st_gid }
        forAnyone = status.st_mode & 0o006 == 0o006
        do throws(Errno) {
            _ = try Descriptor.open(tree.path(Self.device), O_RDWR)
            state = modules.contains("kvm_intel") || modules.contains("kvm_amd") ? .usable : .cannotRunGuests
        } catch {
            if error == .denied || error == .notPermitted { state = .notPermitted }
        }
    }
}

extension HostFacts.Memory {
    package init(_ tree: FileTree) {
        let fields = FileTree.fields(tree.lines("/proc/meminfo"))
        // "8388608 kB"
        let size = { (name: String) in
            fields[name].flatMap { UInt64($0.prefix { $0 != " " }) }.map { ByteCount($0 << 10) }
        }
        self.init(
            total: size("MemTotal") ?? ByteCount(0),
            available: size("MemAvailable") ?? size("MemFree") ?? ByteCount(0))
        let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        let limits = files.compactMap { tree.line($0).flatMap(UInt64.init) }
        // Without a limit the second file holds a number beyond any machine.
        if let smallest = limits.min(), smallest < total.bytes { limit = ByteCount(smallest) }
    }
}

extension FileTree {
    /// The NUMA nodes that the kernel tells of.
    fileprivate var nodes: [(number: Int, folder: String)] {
        let folder = "/sys/devices/system/node"
        return names(folder).filter { $0.hasPrefix("node") }.compactMap { name in
            Int(name.dropFirst(4)).map { ($0, "\(folder)/\(name)") }
        }
    }
}

extension HostFacts.HugepagePool {
    /// Of each node, where the kernel tells; else of the machine.
    static func all(_ tree: FileTree) -> [HostFacts.HugepagePool] {
        let nodes = tree.nodes
        if nodes.isEmpty { return pools(tree, "/sys/kernel/mm/hugepages", node: nil) }
        return nodes.flatMap { pools(tree, "\($0.folder)/hugepages", node: $0.number) }
    }

    static func mounts(_ tree: FileTree) -> [String] {
        tree.lines("/proc/mounts").compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count > 3, fields[2] == "hugetlbfs" else { return nil }
            return "\(fields[1]) (\(fields[3]))"
        }
    }

    private static func pools(_ tree: FileTree, _ folder: String, node: Int?) -> [HostFacts.HugepagePool] {
        tree.names(folder).compactMap { name in
            guard name.hasPrefix("hugepages-"), name.hasSuffix("kB"),
                let kilobytes = UInt64(name.dropFirst("hugepages-".count).dropLast(2))
            else { return nil }
            return HostFacts.HugepagePool(
                node: node, pageSize: ByteCount(kilobytes << 10),
                total: tree.number("\(folder)/\(name)/nr_hugepages") ?? 0,
                free: tree.number("\(folder)/\(name)/free_hugepages") ?? 0)
        }
    }
}

extension HostFacts.Privileges {
    init(_ tree: FileTree, qemuUser name: String?, range: UserRange?) throws(Failure) {
        self.init(uid: geteuid())
        inContainer =
            tree.exists("/.dockerenv") || tree.exists("/run/.containerenv")
            || (tree.text("/proc/1/environ") ?? "").split(separator: "\0").contains { $0.hasPrefix("container=") }
            || Environment.current["KUBERNETES_SERVICE_HOST"] != nil
        let effective = FileTree.fields(tree.lines("/proc/self/status"))["CapEff"]
        capabilities = effective.flatMap { UInt64($0, radix: 16) } ?? 0
        firstUnprivilegedPort = tree.number("/proc/sys/net/ipv4/ip_unprivileged_port_start") ?? firstUnprivilegedPort
        // "Max locked memory         8388608              8388608              bytes"
        let locked = tree.lines("/proc/self/limits").first { $0.hasPrefix("Max locked memory") }
        lockableMemory = locked?.split(separator: " ").dropFirst(4).first.flatMap { UInt64($0) }
        hasTun = access(tree.path("/dev/net/tun"), R_OK | W_OK) == 0
        if uid != 0 { return }
        let user = try User.named(name ?? "nobody", in: tree)
        let mapped = ["uid", "gid"].map { UserRange.mapped(tree.lines("/proc/self/\($0)_map")) }
        let isMapped = { (wanted: UserRange) in mapped.allSatisfy { $0.contains(where: wanted.isWithin) } }
        if let range, !isMapped(range) {
            throw Failure(
                .usage, "use", "--uid-range \(range)", "these users are not mapped here",
                remedy: "choose others, of \(mapped[0].map(\.description).joined(separator: ", "))")
        }
        let isThere = [user.uid, user.gid].allSatisfy { isMapped(UserRange($0, $0)) }
        if !isThere, let name {
            throw Failure(.usage, "run QEMU as", name, "this user is not mapped here", remedy: "choose another")
        }
        if !canRunOthers, let name, user != .root {
            throw Failure(
                .host, "run QEMU as", name, "that needs the rights \(Self.namesToRunOthers)",
                remedy: inContainer ? "docker run with --cap-add for each, or without --cap-drop" : nil)
        }
        // Root who can't have others run programs leaves QEMU no right all the same.
        qemuUser = canRunOthers && isThere ? user : User(uid: uid, gid: getegid())
        if !canRunOthers || name != nil { return }
        ownUsers = range ?? (isMapped(.usual) ? .usual : mapped[0].compactMap(\.upperHalf).first(where: isMapped))
    }
}

extension UserRange {
    /// Of lines `INSIDE OUTSIDE COUNT`; where nothing is said all are.
    fileprivate static func mapped(_ lines: [Substring]) -> [UserRange] {
        let ranges: [UserRange] = lines.compactMap { line in
            let numbers = line.split(separator: " ").compactMap { UInt32($0) }
            guard numbers.count == 3, numbers[2] > 0 else { return nil }
            return UserRange(numbers[0], numbers[0] + (numbers[2] - 1))
        }
        return ranges.isEmpty ? [UserRange(0, .max)] : ranges
    }

    /// What is left in a container with few users: those above the people's and below systemd's.
    fileprivate var upperHalf: UserRange? {
        let (low, high) = (max(first, last / 2, 1000), min(last, 60_000))
        return low <= high ? UserRange(low, high) : nil
    }
}

extension User {
    static func named(_ name: String, in tree: FileTree) throws(Failure) -> User {
        for line in tree.lines("/etc/passwd") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count > 3, fields[0] == name || fields[2] == name,
                let uid = UInt32(fields[2]), let gid = UInt32(fields[3])
            else { continue }
            return User(uid: uid, gid: gid)
        }
        if let uid = UInt32(name) { return User(uid: uid, gid: uid) }
        throw Failure(.usage, "run QEMU as", "'\(name)'", "no such user", remedy: "choose another with --qemu-user")
    }
}

extension HostFacts.Tools {
    /// Debian's names first, then those of other distributions.
    private static let firmware = [
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
        ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ]

    init(_ tree: FileTree, qemu: String) {
        let path = Files.searchPath
        let find = { Files.findProgram($0, path: path) }
        let findForRoot = { Files.findProgramForRoot($0, path: path) }
        self.init()
        (self.qemu, qemuImg, xorriso, tmux) = (find(qemu), find("qemu-img"), find("xorriso"), find("tmux"))
        (cp, snabb, passt, testpmd) = (find("cp"), find("snabb"), find("passt"), find("dpdk-testpmd"))
        (ip, nft, dnsmasq) = (findForRoot("ip"), findForRoot("nft"), findForRoot("dnsmasq"))
        if let pair = Self.firmware.first(where: { tree.exists($0.0) && tree.exists($0.1) }) {
            (firmwareCode, firmwareVariables) = pair
        }
    }
}

extension HostFacts.Topology {
    package init(_ tree: FileTree) {
        self.init(allowed: [])
        let list = FileTree.fields(tree.lines("/proc/self/status"))["Cpus_allowed_list"]
        isolated = tree.line("/sys/devices/system/cpu/isolated")?.numberList ?? []
        // An isolated processor is nobody's until it is asked for; one that is switched off, or not this container's, is not
        // to be had.
        var all = Set(list?.numberList ?? []).union(isolated)
        for file in ["/sys/devices/system/cpu/online", "/sys/fs/cgroup/cpuset.cpus.effective"] {
            if let limit = tree.line(file)?.numberList { all.formIntersection(limit) }
        }
        allowed = all.sorted()
        for node in tree.nodes { nodes[node.number] = tree.line("\(node.folder)/cpulist")?.numberList }
        for cpu in allowed {
            let path = "/sys/devices/system/cpu/cpu\(cpu)/topology/thread_siblings_list"
            siblings[cpu] = tree.line(path)?.numberList
        }
    }
}

extension HostFacts.PCIAccess {
    init(_ tree: FileTree, _ privileges: HostFacts.Privileges) {
        // Devices are links into /sys/devices: a writable /sys/bus/pci alone would not do.
        let path = tree.path("/sys/bus/pci/drivers_probe")
        let isWritable = access(path, W_OK) == 0
        let canRemount = !isWritable && Errno.last == .readOnly && privileges.has(.sysAdmin)
        self.init(sysfs: isWritable ? .allowed : canRemount ? .afterRemount : .refused)
        hasVFIO = tree.exists("/dev/vfio/vfio")
        hasVFIODriver = tree.exists("/sys/bus/pci/drivers/vfio-pci")
    }
}
