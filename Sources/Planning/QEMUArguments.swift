import Model
import Values

/// QEMU's exact argument vector, and the files that it finds open: it names none that it must have the right to open.
struct QEMUArguments {
    private(set) var words: [String] = []
    private(set) var files: [Command.File] = []

    init(_ hardware: Hardware, _ arguments: Arguments, _ facts: HostFacts, _ findings: Findings) {
        add("-name", "guest=\(hardware.name),process=snabbvm-\(hardware.name)")
        add("-uuid", hardware.uuid)
        words += ["-nodefaults", "-no-user-config"]
        addMachine(hardware, arguments, facts)
        // The instance id that cloud-init sees, and the name.
        add(
            "-smbios",
            "type=1,manufacturer=snabbvm,product=snabbvm,version=\(Version.text),serial=\(hardware.uuid),sku=\(hardware.name)"
        )
        // Not elevateprivileges=deny: the ncurses of Debian 13 asks for its own user while it draws, and would die of it.
        // QEMU is started so that it can't gain rights.
        add("-sandbox", "on,obsolete=deny,spawn=deny,resourcecontrol=deny")
        add("-rtc", "base=utc")
        add("-boot", "menu=off,strict=on")
        addControl(hardware)
        addScreen(hardware, findings)
        addNetworks(hardware)
        for port in hardware.ports {
            words += Engines.named(port.engine).qemuWords(for: port, accelerator: hardware.accelerator)
        }
        addDisks(hardware, arguments)
        add("-device", "virtio-rng-pci")
        if let kernel = findings.kernel {
            add("-kernel", kernel)
            if let initrd = findings.initrd { add("-initrd", initrd) }
            if let append = arguments.append { add("-append", append) }
        }
        words += arguments.qemuArguments
    }

    private mutating func add(_ option: String, _ value: String) { words += [option, value] }

    private mutating func addMachine(_ hardware: Hardware, _ arguments: Arguments, _ facts: HostFacts) {
        var machine = "\(arguments.chipset.rawValue),memory-backend=memory"
        if hardware.firmware == .uefi, let code = facts.tools.firmwareCode {
            add("-blockdev", "driver=file,node-name=firmware-code,read-only=on,filename=\(code.optionQuoted)")
            let variables = pass(hardware.folders.firmwareVariables, writable: true)
            add("-blockdev", "driver=file,node-name=firmware-variables,filename=\(variables)")
            machine += ",pflash0=firmware-code,pflash1=firmware-variables"
        }
        add("-machine", machine)
        let isKVM = hardware.accelerator == .kvm
        // Unbounded, the cache of translated code comes to 1 GB of memory that nobody counted on.
        add("-accel", isKVM ? "kvm" : "tcg,thread=multi,tb-size=256")
        add("-cpu", arguments.cpuModel ?? (isKVM ? "host" : "max"))
        add("-smp", "\(hardware.cpus)")
        add("-m", "\(hardware.memory.size.mebibytes)M")
        // Shareable in any case, so that a switch can be given the guest's memory.
        var memory = "memory-backend-memfd,id=memory,size=\(hardware.memory.size.mebibytes)M,share=on"
        if let pageSize = hardware.memory.pageSize {
            memory += ",hugetlb=on,hugetlbsize=\(pageSize),prealloc=on,prealloc-threads=\(min(hardware.cpus, 16))"
            if let node = hardware.memory.node { memory += ",host-nodes=\(node),policy=bind" }
        } else if let node = hardware.memory.node {
            memory += ",host-nodes=\(node),policy=preferred"
        }
        add("-object", memory)
    }

    private mutating func addControl(_ hardware: Hardware) {
        for name in Plan.pipes {
            add("-chardev", "pipe,id=\(name),path=\(hardware.folders.pipe(name).optionQuoted)")
        }
        add("-mon", "chardev=qmp,mode=control")
        add("-serial", "chardev:serial")
        add("-device", "virtio-serial-pci")
        add("-device", "virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0")
    }

    private mutating func addScreen(_ hardware: Hardware, _ findings: Findings) {
        add("-device", "VGA")
        add("-display", "curses")
        guard let vnc = hardware.vnc else { return }
        let host = vnc.host.contains(":") ? "[\(vnc.host)]" : vnc.host
        add("-vnc", "\(host):\(vnc.port - 5900)" + (findings.hasVNCPassword ? ",password=on" : ""))
        // Without a tablet a VNC viewer's pointer and the guest's drift apart.
        add("-device", "qemu-xhci")
        add("-device", "usb-tablet")
    }

    private mutating func addNetworks(_ hardware: Hardware) {
        for network in hardware.guestNICs {
            let name = network.name
            var device = "\(network.model),id=nic-\(name),netdev=\(name),mac=\(network.mac)"
            let isVirtio = network.model.hasPrefix("virtio-net")
            if network.isKernels {
                addTap(network)
                if isVirtio {
                    // Routers that pass packets on as they come would send unfinished checksums into the world.
                    if !network.offload {
                        device += ["csum", "tso4", "tso6", "ecn", "ufo"].map { ",guest_\($0)=off" }.joined()
                    }
                    if let mtu = network.mtu { device += ",host_mtu=\(mtu)" }
                    if network.queues > 1 { device += ",mq=on,vectors=\(2 * network.queues + 2)" }
                }
            } else {
                addUserNetwork(network, hardware)
            }
            // No boot ROM: the machine boots from its disks, and the image need not carry the ROMs.
            add("-device", "\(device),romfile=")
        }
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

    private mutating func addUserNetwork(_ network: GuestNICPlan, _ hardware: Hardware) {
        if network.usesPasst {
            let path = hardware.folders.passt.optionQuoted
            return add("-netdev", "stream,id=\(network.name),server=off,addr.type=unix,addr.path=\(path)")
        }
        let forwards = network.published.map {
            ",hostfwd=\($0.udp ? "udp" : "tcp"):\($0.address ?? ""):\($0.host)-:\($0.guest)"
        }
        var words = "user,id=\(network.name)"
        if let given = network.addresses.first, let gateway = given.gateway, given.address.address != Self.usual {
            let name = [3, 4].map { IPAddress(.four, given.address.first.value + $0) }
                .first { $0 != gateway && $0 != given.address.address }
            words += ",net=\(given.address.network),host=\(gateway),dhcpstart=\(given.address.address)"
            if let name, given.address.contains(name) { words += ",dns=\(name)" }
        }
        add("-netdev", words + forwards.joined())
    }

    /// What QEMU gives its first guest.
    private static let usual = IPAddress("10.0.2.15")!

    // MARK: - Disks

    /// The number that the open file has in QEMU.
    private mutating func passOpen(_ path: String, writable: Bool) -> Int {
        files.append(Command.File(path: path, writable: writable))
        return Int(Command.firstFile) + files.count - 1
    }

    /// Hands QEMU the open file in place of its name: the original can't be written, whatever QEMU does.
    private mutating func pass(_ path: String, writable: Bool) -> String {
        let number = passOpen(path, writable: writable)
        add("-add-fd", "fd=\(number),set=\(number)")
        return "/dev/fdset/\(number)"
    }

    private mutating func addFile(_ node: String, _ path: String, writable: Bool, isDevice: Bool) {
        let passed = pass(path, writable: writable)
        let driver = isDevice ? "host_device" : "file"
        add(
            "-blockdev",
            "driver=\(driver),node-name=\(node),filename=\(passed)" + (writable ? ",discard=unmap" : ",read-only=on"))
    }

    private mutating func addBase(_ node: String, _ base: DiskImage) {
        if let socket = base.served { return addServed(node, socket) }
        addFile(node, base.path, writable: false, isDevice: base.isBlockDevice)
    }

    /// An image that is still coming. If who serves it dies, QEMU waits for the next.
    private mutating func addServed(_ node: String, _ socket: String) {
        add(
            "-blockdev",
            "driver=nbd,node-name=\(node),server.type=unix,server.path=\(socket.optionQuoted),read-only=on,"
                + "reconnect-delay=86400")
    }

    private mutating func addDisks(_ hardware: Hardware, _ arguments: Arguments) {
        if arguments.diskBus != .sata, !hardware.disks.isEmpty { add("-object", "iothread,id=io") }
        if hardware.secretSource != nil {
            add("-object", "secret,id=secret,file=\(hardware.folders.secret.optionQuoted)")
        }
        if arguments.diskBus == .scsi { add("-device", "virtio-scsi-pci,iothread=io") }
        for (index, disk) in hardware.disks.enumerated() {
            let node = "\(disk.role.rawValue)\(index)"
            switch disk.role {
            case .disk:
                var backing = ""
                // What the guest writes is as secret as what it reads.
                let key = hardware.secretSource == nil ? "" : ",encrypt.format=luks,encrypt.key-secret=secret"
                if let base = disk.base {
                    addBase("\(node)-base-file", base)
                    add(
                        "-blockdev",
                        "driver=\(base.format.rawValue),node-name=\(node)-base,file=\(node)-base-file,read-only=on"
                            + (base.encryption == nil ? "" : key))
                    backing = ",backing=\(node)-base"
                }
                addFile("\(node)-file", disk.path, writable: true, isDevice: false)
                add(
                    "-blockdev",
                    "driver=\(disk.format.rawValue),node-name=\(node),file=\(node)-file,discard=unmap\(backing)\(key)")
                attach(node, to: arguments.diskBus, settings: ",bootindex=1")
            case .cdrom:
                if let socket = disk.served {
                    addServed("\(node)-file", socket)
                } else {
                    addFile("\(node)-file", disk.path, writable: false, isDevice: disk.isDevice)
                }
                add("-blockdev", "driver=raw,node-name=\(node),file=\(node)-file,read-only=on")
                add("-device", "ide-cd,drive=\(node),bootindex=\(index + 1)")
            case .seed:
                addFile("\(node)-file", disk.path, writable: false, isDevice: false)
                add("-blockdev", "driver=raw,node-name=\(node),file=\(node)-file,read-only=on")
                attach(node, to: arguments.diskBus, settings: "")
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

extension String {
    /// QEMU ends a value at a comma; two stand for one.
    var optionQuoted: String { split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,") }
}

/// The machine as QEMU is told of it.
struct Hardware {
    let name: String
    let uuid: String
    let folders: MachinePaths
    let accelerator: AcceleratorChoice
    let memory: Plan.MemoryPlan
    let cpus: Int
    let firmware: Firmware
    let disks: [Plan.DiskPlan]
    let secretSource: String?
    let guestNICs: [GuestNICPlan]
    let ports: [PortPlan]
    let vnc: SocketAddress?
}
