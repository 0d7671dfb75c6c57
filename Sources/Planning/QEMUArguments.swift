import Model
import Values

/// QEMU's exact argument vector, and the files that it finds open: it names none that it must have the right to open.
struct QEMUArguments {
    private(set) var words: [String] = []
    private(set) var files: [Command.File] = []

    init(
        _ arguments: Arguments, _ facts: HostFacts, _ wishes: Wishes, _ findings: Findings, uuid: String,
        accelerator: AcceleratorChoice, memory: Plan.MemoryPlan, disks: [Plan.DiskPlan], guestNICs: [GuestNICPlan],
        ports: [PortPlan]
    ) {
        let (name, folders) = (arguments.name, findings.folders)
        add("-name", "guest=\(name),process=snabbvm-\(name)")
        add("-uuid", uuid)
        words += ["-nodefaults", "-no-user-config"]
        addMachine(arguments, facts, folders, accelerator, memory)
        // The instance id that cloud-init sees, and the name.
        let versions = "manufacturer=snabbvm,product=snabbvm,version=\(Version.text)"
        add("-smbios", "type=1,\(versions),serial=\(uuid),sku=\(name)")
        // Not elevateprivileges=deny: the ncurses of Debian 13 asks for its own user while it draws, and would die of
        // it. QEMU is started so that it can't gain rights.
        add("-sandbox", "on,obsolete=deny,spawn=deny,resourcecontrol=deny")
        add("-rtc", "base=utc")
        add("-boot", "menu=off,strict=on")
        addControl()
        addScreen(wishes.vnc, hasPassword: findings.hasVNCPassword)
        for nic in guestNICs { addNIC(nic, folders) }
        for port in ports { words += port.engine.engine.qemuWords(for: port, accelerator: accelerator) }
        addDisks(disks, on: arguments.diskBus, secret: findings.secretFile == nil ? nil : folders.secret)
        add("-device", "virtio-rng-pci")
        if let kernel = findings.kernel {
            add("-kernel", copy(kernel))
            if let initrd = findings.initrd { add("-initrd", copy(initrd)) }
            if let append = arguments.append { add("-append", append) }
        }
        words += arguments.qemuArguments
    }

    private mutating func add(_ option: String, _ value: String) { words += [option, value] }

    private mutating func addMachine(
        _ arguments: Arguments, _ facts: HostFacts, _ folders: MachinePaths, _ accelerator: AcceleratorChoice,
        _ memory: Plan.MemoryPlan
    ) {
        var machine = "\(arguments.chipset.rawValue),memory-backend=memory"
        if arguments.firmware == .uefi, let code = facts.tools.firmwareCode {
            add("-blockdev", "driver=file,node-name=firmware-code,read-only=on,filename=\(code.optionQuoted)")
            let variables = pass(folders.firmwareVariables, writable: true)
            add("-blockdev", "driver=file,node-name=firmware-variables,filename=\(variables)")
            machine += ",pflash0=firmware-code,pflash1=firmware-variables"
        }
        add("-machine", machine)
        let isKVM = accelerator == .kvm
        // Unbounded, the cache of translated code comes to 1 GB of memory that nobody counted on.
        add("-accel", isKVM ? "kvm" : "tcg,thread=multi,tb-size=256")
        add("-cpu", arguments.cpuModel ?? (isKVM ? "host" : "max"))
        add("-smp", "\(arguments.cpus)")
        add("-m", "\(memory.size.mebibytes)M")
        // Shareable in any case, so that a switch can be given the guest's memory.
        var backend = "memory-backend-memfd,id=memory,size=\(memory.size.mebibytes)M,share=on"
        if let pageSize = memory.pageSize {
            backend += ",hugetlb=on,hugetlbsize=\(pageSize),prealloc=on,prealloc-threads=\(min(arguments.cpus, 16))"
        }
        if let node = memory.node {
            backend += ",host-nodes=\(node),policy=\(memory.pageSize == nil ? "preferred" : "bind")"
        }
        add("-object", backend)
    }

    private mutating func addControl() {
        for (index, name) in Plan.sockets.enumerated() {
            add("-chardev", "socket,id=\(name),\(Command.socketWords(index))")
        }
        add("-mon", "chardev=qmp,mode=control")
        add("-serial", "chardev:serial")
        add("-device", "virtio-serial-pci")
        add("-device", "virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0")
    }

    private mutating func addScreen(_ vnc: SocketAddress?, hasPassword: Bool) {
        add("-device", "VGA")
        add("-display", "curses")
        guard let vnc else { return }
        let host = vnc.host.contains(":") ? "[\(vnc.host)]" : vnc.host
        add("-vnc", "\(host):\(vnc.port - 5900)" + (hasPassword ? ",password=on" : ""))
        // Without a tablet a VNC viewer's pointer and the guest's drift apart.
        add("-device", "qemu-xhci")
        add("-device", "usb-tablet")
    }

    // MARK: - Networks

    private mutating func addNIC(_ nic: GuestNICPlan, _ folders: MachinePaths) {
        var device = "\(nic.model),id=nic-\(nic.name),netdev=\(nic.name),mac=\(nic.mac)"
        if nic.isKernels { addTap(nic) } else { addUserNetwork(nic, folders) }
        if nic.isKernels, nic.model.hasPrefix("virtio-net") {
            // Routers that pass packets on as they come would send unfinished checksums into the world.
            if !nic.offload { device += ["csum", "tso4", "tso6", "ecn", "ufo"].map { ",guest_\($0)=off" }.joined() }
            if let mtu = nic.mtu { device += ",host_mtu=\(mtu)" }
            if nic.queues > 1 { device += ",mq=on,vectors=\(2 * nic.queues + 2)" }
        }
        // No boot ROM: the machine boots from its disks, and the image need not carry the ROMs.
        add("-device", "\(device),romfile=")
    }

    private mutating func addTap(_ network: GuestNICPlan) {
        var words = "tap,id=\(network.name)"
        let device = network.device ?? ""
        if case .macvtap = network.mode {
            words += ",fd=\(passOpen(device, writable: true))"
        } else {
            words += ",ifname=\(device.optionQuoted),script=no,downscript=no"
            if network.queues > 1 { words += ",queues=\(network.queues)" }
        }
        switch network.vhost {
        case .off: break
        case .passed: words += ",vhost=on,vhostfd=\(passOpen("/dev/vhost-net", writable: true))"
        case .opened: words += ",vhost=on"
        }
        add("-netdev", words)
    }

    private mutating func addUserNetwork(_ network: GuestNICPlan, _ folders: MachinePaths) {
        if network.usesPasst {
            let path = folders.passt.optionQuoted
            return add("-netdev", "stream,id=\(network.name),server=off,addr.type=unix,addr.path=\(path)")
        }
        let forwards = network.published.map {
            ",hostfwd=\($0.udp ? "udp" : "tcp"):\($0.address ?? ""):\($0.host)-:\($0.guest)"
        }
        var words = "user,id=\(network.name)"
        if let given = network.addresses.first, let gateway = given.gateway, given.address.address != Self.usualAddress
        {
            let name = [3, 4].map { IPAddress(.four, given.address.first.value + $0) }
                .first { $0 != gateway && $0 != given.address.address }
            words += ",net=\(given.address.network),host=\(gateway),dhcpstart=\(given.address.address)"
            if let name, given.address.contains(name) { words += ",dns=\(name)" }
        }
        add("-netdev", words + forwards.joined())
    }

    /// What QEMU gives its first guest: 10.0.2.15.
    static let usualAddress = IPAddress(.four, 0x0a00_020f)

    // MARK: - Disks

    private mutating func pass(_ file: Command.File) -> Int {
        files.append(file)
        return Command.firstDescriptor + Plan.sockets.count + files.count - 1
    }

    /// The number that the open file has in QEMU.
    private mutating func passOpen(_ path: String, writable: Bool) -> Int {
        pass(Command.File(path: path, writable: writable))
    }

    /// Hands QEMU the open file in place of its name: the original can't be written, whatever QEMU does.
    private mutating func pass(_ path: String, writable: Bool) -> String {
        let number = passOpen(path, writable: writable)
        add("-add-fd", "fd=\(number),set=\(number)")
        return "/dev/fdset/\(number)"
    }

    /// What QEMU opens by a name of its own.
    private mutating func copy(_ path: String) -> String {
        "/proc/self/fd/\(pass(Command.File(path: path, isCopied: true)))"
    }

    /// A file or a device that is only read; or, at the socket where it is served, an image that is still coming. If
    /// who serves it dies, QEMU waits for the next.
    private mutating func addRead(_ node: String, _ path: String, isDevice: Bool, served socket: String?) {
        if let socket {
            let server = "server.type=unix,server.path=\(socket.optionQuoted)"
            return add("-blockdev", "driver=nbd,node-name=\(node),\(server),read-only=on,reconnect-delay=86400")
        }
        let driver = isDevice ? "host_device" : "file"
        let passed = pass(path, writable: false)
        add("-blockdev", "driver=\(driver),node-name=\(node),filename=\(passed),read-only=on")
    }

    private mutating func addDisks(_ disks: [Plan.DiskPlan], on bus: DiskBus, secret: String?) {
        if bus != .sata, !disks.isEmpty { add("-object", "iothread,id=io") }
        if let secret { add("-object", "secret,id=secret,file=\(secret.optionQuoted)") }
        if bus == .scsi { add("-device", "virtio-scsi-pci,iothread=io") }
        for (index, disk) in disks.enumerated() {
            let node = "\(disk.role.rawValue)\(index)"
            switch disk.role {
            case .disk:
                var backing = ""
                // What the guest writes is as secret as what it reads.
                let key = secret == nil ? "" : ",encrypt.format=luks,encrypt.key-secret=secret"
                if let base = disk.base {
                    addRead("\(node)-base-file", base.path, isDevice: base.isBlockDevice, served: base.served)
                    add(
                        "-blockdev",
                        "driver=\(base.format.rawValue),node-name=\(node)-base,file=\(node)-base-file,read-only=on"
                            + (base.encryption == nil ? "" : key))
                    backing = ",backing=\(node)-base"
                }
                let passed = pass(disk.path, writable: true)
                add("-blockdev", "driver=file,node-name=\(node)-file,filename=\(passed),discard=unmap")
                add(
                    "-blockdev",
                    "driver=\(disk.format.rawValue),node-name=\(node),file=\(node)-file,discard=unmap\(backing)\(key)")
                attach(node, to: bus, settings: ",bootindex=1")
            case .cdrom, .seed:
                addRead("\(node)-file", disk.path, isDevice: disk.isDevice, served: disk.served)
                add("-blockdev", "driver=raw,node-name=\(node),file=\(node)-file,read-only=on")
                if disk.role == .seed {
                    attach(node, to: bus, settings: "")
                } else {
                    add("-device", "ide-cd,drive=\(node),bootindex=\(index + 1)")
                }
            }
        }
    }

    private mutating func attach(_ node: String, to bus: DiskBus, settings: String) {
        switch bus {
        case .virtio: add("-device", "virtio-blk-pci,drive=\(node),iothread=io\(settings)")
        case .scsi: add("-device", "scsi-hd,drive=\(node)\(settings)")
        case .sata: add("-device", "ide-hd,drive=\(node)\(settings)")
        }
    }
}
