/// One thing to be done to the host before the machine starts, in order.
enum Step: Codable, Equatable {
    /// A shared folder may be there already, and others may have things in it.
    case folder(path: String, mode: UInt16, isShared: Bool, owner: User? = nil)
    case file(path: String, mode: UInt16, FileContent)
    case pipe(path: String, owner: User?)
    /// A copy of a file that only this user may read.
    case secret(path: String, source: String, owner: User?)
    /// A program writes the whole file to its output, and the file says in itself how long it is.
    case seed(path: String, Command)
    /// Programs, one after the other, that make a file: first under another name, so that it is there whole or not at all.
    case disk(path: String, [Command])

    /// A program that changes what is kept.
    case run(Command)

    /// Makes a folder writable that is mounted for reading only.
    case remount(path: String)
    /// Mounts a file system, if nothing is mounted there.
    case mount(path: String, kind: String)
    /// Takes a NIC from its driver and marks it as ours.
    case take(NICState, from: String?, over: PortMark?)
    /// Makes sure that the NICs are ours and nobody else's.
    case confirm([NICState])
    /// Lets the devices of an IOMMU group see the memory's own addresses.
    case iommuType(group: Int, type: String, of: PCIAddress)
    /// Gives a NIC of ours to this driver, whatever its id.
    case bind(address: PCIAddress, driver: String, mark: PortMark)
    case interfaceUp(name: String)
    case tap(name: String, isMultiQueue: Bool)
    /// A device file, by its numbers `major:minor`, for who opens it for the machine.
    case device(path: String, numbers: String)
    /// Nothing is to be done, but somebody will make something of ours there.
    case place(path: String)
    /// What `ip -batch` is told, line for line.
    case links([String], program: String, undoneBy: [Change])
    /// What nftables is told: tables of this name, all made at once.
    case tables(name: String, families: [String], text: String, program: String)
    /// A setting of the kernel.
    case setting(path: String, value: String, before: String, namespace: UInt64)
    /// Where the switches keep what outlives them when they are killed.
    case switchFiles(path: String)

    /// Takes a NIC from others, or makes that possible.
    var isTaking: Bool {
        switch self {
        case .remount, .take: true
        default: false
        }
    }

    /// What they make a disk as, before it gets its name.
    static func unfinished(_ path: String) -> String { "\(path).new" }

    /// For the log, where no file's content belongs.
    var summary: String {
        if case .file(let path, _, let content) = self { return "write \(path) (\(content.bytes.count) bytes)" }
        return shellText.oneLine
    }

    /// As commands for a shell.
    var shellText: String {
        switch self {
        case .folder(let path, let mode, _, let owner):
            let make = "mkdir -p -m \(String(mode, radix: 8)) \(path.shellQuoted)"
            return owner.map { "\(make) && chown \($0.uid):\($0.gid) \(path.shellQuoted)" } ?? make
        case .file(let path, let mode, let content):
            if let source = content.source {
                return "install -m \(String(mode, radix: 8)) \(source.shellQuoted) \(path.shellQuoted)"
            }
            if content.isPrivate {
                return
                    ": > \(path.shellQuoted)  # \(content.bytes.count) bytes made from your meta-data, not shown here"
            }
            let mask = String(~mode & 0o777, radix: 8)
            let text = String(decoding: content.bytes, as: UTF8.self)
            return "(umask \(mask); printf %s \(text.shellQuoted) > \(path.shellQuoted))"
        case .pipe(let path, let owner):
            let make = "mkfifo -m 600 \(path.shellQuoted)"
            return owner.map { "\(make) && chown \($0.uid):\($0.gid) \(path.shellQuoted)" } ?? make
        case .secret(let path, let source, let owner):
            let user = owner.map { " -o \($0.uid) -g \($0.gid)" } ?? ""
            return "install -m 400\(user) \(source.shellQuoted) \(path.shellQuoted)"
        case .seed(let path, let command):
            return "(umask 077; \(command.shellText) > \(path.shellQuoted))"
        case .disk(let path, let commands):
            let rename = "mv \(Step.unfinished(path).shellQuoted) \(path.shellQuoted)"
            return (commands.map(\.shellText) + [rename]).joined(separator: " &&\n    ")
        case .run(let command): return command.shellText
        case .remount(let path): return "mount -o remount,rw \(path.shellQuoted)"
        case .mount(let path, let kind):
            return "mountpoint -q \(path) || { mkdir -p \(path) && mount -t \(kind) snabbvm \(path); }"
        case .take(let state, let driver, _):
            let unbind = driver.map { "echo \(state.address) > /sys/bus/pci/drivers/\($0)/unbind && " } ?? ""
            return unbind + "echo \(state.mark.text.shellQuoted) > \(state.folder)/driver_override &&\n    "
                + "setpci -s \(state.address) COMMAND=0:4"
        case .confirm(let states):
            let looks = states.map { "grep -qx \($0.mark.text.shellQuoted) \($0.folder)/driver_override" }
            return "sleep 0.3 && \(looks.joined(separator: " && "))"
        case .iommuType(let group, let type, _):
            return "echo \(type) > /sys/kernel/iommu_groups/\(group)/type"
        case .bind(let address, let driver, let mark):
            let override = "/sys/bus/pci/devices/\(address)/driver_override"
            return "echo \(driver) > \(override) && echo \(address) > /sys/bus/pci/drivers/\(driver)/bind &&\n    "
                + "echo \(mark.text.shellQuoted) > \(override)"
        case .interfaceUp(let name): return "ip link set \(name.shellQuoted) up"
        case .tap(let name, let isMultiQueue):
            return "ip tuntap add dev \(name.shellQuoted) mode tap" + (isMultiQueue ? " multi_queue" : "")
        case .switchFiles(let path): return "mkdir -p -m 700 \(path.shellQuoted)"
        case .device(let path, let numbers):
            return "mknod -m 600 \(path.shellQuoted) c \(numbers.split(separator: ":").joined(separator: " "))"
        case .place(let path): return "# \(path.shellQuoted) comes with its program"
        case .links(let lines, let program, _): return "\(program) -batch - <<'.'\n\(lines.text)."
        case .tables(_, _, let text, let program): return "\(program) -f - <<'.'\n\(text)."
        case .setting(let path, let value, _, _): return "echo \(value) > \(path.shellQuoted)"
        }
    }
}
