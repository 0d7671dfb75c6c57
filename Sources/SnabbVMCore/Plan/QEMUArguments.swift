/// QEMU's exact argument vector, and the files that it finds open: it names none that it must have the right to open.
struct QEMUArguments {
    private(set) var words: [String] = []
    private(set) var files: [Command.File] = []

    init(_ plan: Plan, _ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) {
        add("-name", "guest=\(plan.name),process=snabbvm-\(plan.name)")
        add("-uuid", plan.uuid)
        words += ["-nodefaults", "-no-user-config"]
        addMachine(plan, arguments, facts)
        // The instance id that cloud-init sees, and the name.
        add(
            "-smbios",
            "type=1,manufacturer=snabbvm,product=snabbvm,version=\(Help.version),serial=\(plan.uuid),sku=\(plan.name)")
        // Not elevateprivileges=deny: the ncurses of Debian 13 asks for its own user while it draws, and would die of it.
        // QEMU is started so that it can't gain rights.
        add("-sandbox", "on,obsolete=deny,spawn=deny,resourcecontrol=deny")
        add("-rtc", "base=utc")
        add("-boot", "menu=off,strict=on")
        addControl(plan)
        addScreen(plan, inspected)
        addNetwork(plan)
        for port in plan.ports {
            words += Engines.named(port.engine).qemuWords(for: port, accelerator: plan.accelerator)
        }
        addDisks(plan, arguments)
        add("-device", "virtio-rng-pci")
        if let kernel = inspected.kernel {
            add("-kernel", kernel)
            if let initrd = inspected.initrd { add("-initrd", initrd) }
            if let append = arguments.append { add("-append", append) }
        }
        words += arguments.qemuArguments
    }

    private mutating func add(_ option: String, _ value: String) { words += [option, value] }

    private mutating func addMachine(_ plan: Plan, _ arguments: Arguments, _ facts: Facts) {
        var machine = "\(arguments.chipset.rawValue),memory-backend=memory"
        if plan.firmware == .uefi, let code = facts.tools.firmwareCode {
            add("-blockdev", "driver=file,node-name=firmware-code,read-only=on,filename=\(code.optionQuoted)")
            let variables = pass(plan.folders.firmwareVariables, writable: true)
            add("-blockdev", "driver=file,node-name=firmware-variables,filename=\(variables)")
            machine += ",pflash0=firmware-code,pflash1=firmware-variables"
        }
        add("-machine", machine)
        let isKVM = plan.accelerator == .kvm
        // Unbounded, the cache of translated code comes to 1 GB of memory that nobody counted on.
        add("-accel", isKVM ? "kvm" : "tcg,thread=multi,tb-size=256")
        add("-cpu", arguments.cpuModel ?? (isKVM ? "host" : "max"))
        add("-smp", "\(plan.cpus)")
        add("-m", "\(plan.memory.size.mebibytes)M")
        // Shareable in any case, so that a switch can be given the guest's memory.
        var memory = "memory-backend-memfd,id=memory,size=\(plan.memory.size.mebibytes)M,share=on"
        if let pageSize = plan.memory.pageSize {
            memory += ",hugetlb=on,hugetlbsize=\(pageSize),prealloc=on,prealloc-threads=\(min(plan.cpus, 16))"
            if let node = plan.memory.node { memory += ",host-nodes=\(node),policy=bind" }
        } else if let node = plan.memory.node {
            memory += ",host-nodes=\(node),policy=preferred"
        }
        add("-object", memory)
    }

    private mutating func addControl(_ plan: Plan) {
        for name in Plan.pipes {
            add("-chardev", "pipe,id=\(name),path=\(plan.folders.pipe(name).optionQuoted)")
        }
        add("-mon", "chardev=qmp,mode=control")
        add("-serial", "chardev:serial")
        add("-device", "virtio-serial-pci")
        add("-device", "virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0")
    }

    private mutating func addScreen(_ plan: Plan, _ inspected: Inspected) {
        add("-device", "VGA")
        add("-display", "curses")
        guard let vnc = plan.vnc else { return }
        let host = vnc.host.contains(":") ? "[\(vnc.host)]" : vnc.host
        add("-vnc", "\(host):\(vnc.port - 5900)" + (inspected.hasVNCPassword ? ",password=on" : ""))
        // Without a tablet a VNC viewer's pointer and the guest's drift apart.
        add("-device", "qemu-xhci")
        add("-device", "usb-tablet")
    }

    private mutating func addNetwork(_ plan: Plan) {
        guard let network = plan.network else { return }
        let forwards = network.published.map {
            ",hostfwd=\($0.udp ? "udp" : "tcp"):\($0.address ?? ""):\($0.host)-:\($0.guest)"
        }
        add("-netdev", "user,id=eth0" + forwards.joined())
        // No boot ROM: the machine boots from its disks, and the image need not carry the ROMs.
        add("-device", "\(network.model),id=nic-eth0,netdev=eth0,mac=\(network.mac),romfile=")
    }

    // MARK: - Disks

    /// Hands QEMU the open file in place of its name: the original can't be written, whatever QEMU does.
    private mutating func pass(_ path: String, writable: Bool) -> String {
        let number = Int(Command.firstFile) + files.count
        files.append(Command.File(path: path, writable: writable))
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

    private mutating func addDisks(_ plan: Plan, _ arguments: Arguments) {
        if arguments.diskBus != .sata, !plan.disks.isEmpty { add("-object", "iothread,id=io") }
        if plan.secretSource != nil { add("-object", "secret,id=secret,file=\(plan.folders.secret.optionQuoted)") }
        if arguments.diskBus == .scsi { add("-device", "virtio-scsi-pci,iothread=io") }
        for (index, disk) in plan.disks.enumerated() {
            let node = "\(disk.role.rawValue)\(index)"
            switch disk.role {
            case .disk:
                var backing = ""
                // What the guest writes is as secret as what it reads.
                let key = plan.secretSource == nil ? "" : ",encrypt.format=luks,encrypt.key-secret=secret"
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
