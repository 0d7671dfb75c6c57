import Model
import Values

/// One option: its row makes the parser, the help and the environment name.
struct OptionRow: Sendable {
    enum Group: String, CaseIterable, Sendable {
        case machine = "The machine"
        case disks = "Disks"
        case images = "Fetching images"
        case seed = "cloud-init"
        case network = "Network and VNC"
        case ports = "NIC ports"
        case host = "On the host"
        case output = "What is printed"
    }
    enum Kind: Sendable {
        case flag(@Sendable (inout Arguments, Bool) -> Void)
        /// Returns false where the text is no such value.
        case value(String, @Sendable (inout Arguments, String) -> Bool)
        /// May be given many times; in the environment one a line.
        case list(String, @Sendable (inout Arguments, String) -> Bool)
    }

    let name: String
    let letter: Character?
    let group: Group
    let verbs: [Verb]
    let kind: Kind
    let help: String

    init(
        _ name: String, _ group: Group, letter: Character? = nil, _ kind: Kind, _ help: String, for verbs: [Verb]? = nil
    ) {
        self.name = name
        self.letter = letter
        self.group = group
        self.verbs = verbs ?? (group == .images ? OptionRow.fetching : OptionRow.machine)
        self.kind = kind
        self.help = help
    }

    var environmentName: String { "SNABBVM_" + name.uppercased().replacing(["-": "_"]) }

    /// A password can be in it.
    var isSecret: Bool { name == "header" }

    var placeholder: String? {
        switch kind {
        case .flag: nil
        case .value(let placeholder, _), .list(let placeholder, _): placeholder
        }
    }

    private static let all = Verb.allCases
    private static let machine: [Verb] = [.run, .demo, .check]
    private static let fetching = machine + [.images, .disk]
    private static let trying = fetching + [.ssh]
    private static let taking = machine + [.release]

    static let table: [OptionRow] = [
        .init(
            "memory", .machine, letter: "m", .value("SIZE") { $0.set(\.memory, ByteCount($1, unit: 1 << 20)) },
            "memory of the machine: 4G, 512M, or a number of MB (2G)"),
        .init("cpus", .machine, letter: "c", .number("N", 1...1024, \.cpus), "virtual CPUs (1)"),
        .init(
            "hugepages", .machine, .value("auto|off|required|SIZE") { $0.set(\.hugepages, HugepageChoice($1)) },
            "memory in hugepages: where the host has them (auto), never, or always, of 2M or 1G"),
        .init("accel", .machine, .choice(\.accelerator), "hardware virtualisation or software emulation (auto)"),
        .init("cpu", .machine, .text("MODEL", \.cpuModel), "CPU model for QEMU's -cpu (kvm: host, tcg: max)"),
        .init("machine", .machine, .choice(\.chipset), "chipset (q35)"),
        .init("firmware", .machine, .choice(\.firmware), "what boots the machine (bios)"),
        .init(
            "kernel", .machine, .text("FILE", \.kernel), "boot this Linux kernel directly; IMAGE may then be left out"),
        .init("initrd", .machine, .text("FILE", \.initrd), "with this initial RAM disk"),
        .init("append", .machine, .text("TEXT", \.append), "and this kernel command line"),

        .init(
            "disk-size", .disks, .value("SIZE") { $0.set(\.diskSize, ByteCount($1, unit: 1 << 20)) },
            "grow the disk to this size; beside an ISO the size of the blank disk (2G)"),
        .init(
            "format", .disks, .value(DiskFormat.choices) { $0.set(\.format, DiskFormat(rawValue: $1)) },
            "what IMAGE is (by default, what its content says)", for: fetching),
        .init("copy", .disks, .toggle(\.copy), "boot a full copy of IMAGE rather than an overlay on it"),
        .init("cdrom", .disks, .text("FILE", \.cdrom), "one more ISO, as a CD; also by URL"),
        .init(
            "secret-file", .disks, .text("FILE", \.secretFile),
            "passphrase of an encrypted qcow2, byte for byte; the overlay is encrypted with it too",
            for: machine + [.disk]),
        .init("disk-bus", .disks, .choice(\.diskBus), "how disks are attached (virtio)"),

        .init(
            "checksum", .images, .value("SUM") { $0.set(\.checksum, ChecksumRequest($1) == nil ? nil : $1) },
            "what IMAGE must be: sha256:HEX, sha512:HEX, or the URL or path of a SUMS file"),
        .init("keyring", .images, .text("FILE", \.keyring), "the SUMS file must be signed by a key in it"),
        .init(
            "lazy", .images, .toggle(\.lazy), "boot at once; what is not here yet comes while the machine runs",
            for: machine),
        .init(
            "cache", .images, .text("DIR", \.cache),
            "where fetched images are kept (images, below --state or --scratch)"),
        .init(
            "header", .images, .list("LINE|@FILE") { $0.add(\.web.headers, $1.isHeaderLine ? [$1] : nil) },
            "one more line of the HTTP request"),
        .init("cacert", .images, .text("FILE", \.web.caCertificates), "certificates to trust, in place of the host's"),
        .init("insecure", .images, .toggle(\.web.isInsecure), "check no certificate: anybody may answer"),
        .init(
            "attempts", .images,
            .value("N") { arguments, text in
                let number = Int(text).flatMap { (1...1_000_000).contains($0) ? $0 : nil }
                return arguments.set(\.attempts, number) && arguments.set(\.web.attempts, number)
            }, "how often in a row a server may fail (10); ssh: how often it is tried (60)", for: trying),
        .init("sleep", .images, .seconds(\.web.sleep), "how long to wait before it is asked again (1)", for: trying),
        .init(
            "tick", .images, .seconds(\.web.tick),
            "how much longer after each failure (1); ssh: how much longer each try may take", for: trying),
        .init("timeout", .images, .seconds(\.web.timeout), "how long a server may say nothing (30)"),
        .init("member", .images, .text("NAME", \.member), "which file of an archive is the disk"),
        .init(
            "max-size", .images, .value("SIZE") { $0.set(\.maxSize, ByteCount($1, unit: 1 << 20)) },
            "how large a disk may unpack to (1000 times its packed size, and 1T)"),
        .init("images", .images, .text("FILE", \.catalog), "one more list of names for images"),

        .init(
            "user-data", .seed, letter: "u", .text("FILE", \.userData), "cloud-init user-data, passed on byte for byte"),
        .init("meta-data", .seed, .text("FILE", \.metaData), "cloud-init meta-data (made when not given)"),
        .init("network-config", .seed, .text("FILE", \.networkConfig), "cloud-init network-config"),
        .init(
            "hostname", .seed, .value("NAME") { $0.set(\.hostname, $1.isHostname ? $1 : nil) },
            "the guest's host name (the machine's name)"),
        .init(
            "ssh-key", .seed, .list("KEY|FILE") { $0.add(\.sshKeys, [$1]) },
            "SSH public key to let in: itself, or a file with one a line"),
        .init("seed-label", .seed, .choice(\.seedLabel), "volume label of the seed disk (cidata)"),

        .init(
            "net", .network, .value(NetworkMode.placeholder) { $0.set(\.net, NetworkMode($1)) },
            "the machine's eth0 (bridge in a container with NET_ADMIN and its own network, else user)"),
        .init("bridge", .network, .text("NAME", \.bridge), "join this bridge, which is there already"),
        .init(
            "interface", .network, .text("NAME", \.interface),
            "the container's interface that becomes the machine's eth0 (the one with the default route)"),
        .init(
            "address", .network,
            .list("auto|dhcp|none|CIDR[,GATEWAY]") { arguments, text in
                arguments.set(\.address, AddressRequest(text)?.joined(with: arguments.address))
            },
            "address of eth0: a free one (auto), what others give (dhcp), or this; IPv4 and IPv6"
        ),
        .init(
            "nic", .network, .list(GuestNICRequest.placeholder) { $0.add(\.nics, GuestNICRequest($1).map { [$0] }) },
            "one more NIC, at another of the container's interfaces; the guest has them in this order"),
        .init(
            "net-all", .network, .toggle(\.netAll),
            "one more NIC at each of the container's other interfaces, as --net says"),
        .init(
            "user-net", .network, .choice(\.userNet),
            "who plays --net user: QEMU itself (slirp), or passt, if it is installed"),
        .init(
            "nic-offload", .network, .toggle(\.nicOffload),
            "leave checksums and the cutting of large packets to the guest: faster, but not for routers"),
        .init(
            "publish", .network, .list("[[ADDR:]PORT:]PORT[/udp]") { $0.add(\.published, PublishedPort.parse($1)) },
            "lead a port of the host to one of the guest; lists and ranges too, or only those"),
        .init(
            "nic-model", .network, .value("MODEL") { $0.set(\.nicModel, $1.isPlainWord ? $1 : nil) },
            "QEMU device for eth0 (virtio-net-pci)"),
        .init(
            "mac", .network, .value("ADDRESS") { $0.set(\.mac, MACAddress(unicast: $1)) },
            "MAC address of eth0 (made from the machine's name)"),
        .init(
            "vnc", .network, .value("[ADDR:]PORT|off") { $0.set(\.vnc, VNCChoice($1)) },
            "where VNC listens (5901; on all addresses in a container, else on 127.0.0.1)"),
        .init("vnc-password-file", .network, .text("FILE", \.vncPasswordFile), "file with the VNC password"),

        .init(
            "ports-file", .ports, .text("FILE", \.portsFile),
            "JSON file with ports and their settings, watched while the machine runs"),
        .init(
            "force-port", .ports, .toggle(\.forcePort),
            "take NICs that are in use, or left behind; release those of other containers", for: taking),
        .init(
            "switch-cpus", .ports, .value("LIST") { $0.set(\.switchCPUs, $1.numberList) },
            "processors for the switches: 2,4-7 (chosen beside each NIC)"),
        .init(
            "switch-retries", .ports, .number("N", 0...1000, \.switchRetries),
            "failures in a row of a switch before the start fails (5)"),

        .init(
            "name", .host,
            .value("NAME") { arguments, text in
                arguments.nameIsGiven = true
                return arguments.set(\.name, text.isMachineName ? text : nil)
            }, "name of the machine (vm)", for: all),
        .init(
            "state", .host, .text("DIR", \.state),
            "keep the machine's disk here and boot it again; else changes are lost", for: fetching),
        .init(
            "scratch", .host, .text("DIR", \.scratch), "where disks are that are not kept (/var/lib/snabbvm)",
            for: fetching),
        .init(
            "run-dir", .host, .text("DIR", \.runFolder), "where running machines have sockets and logs (/run/snabbvm)",
            for: all),
        .init(
            "share-dir", .host, .text("DIR", \.shareFolder), "where the demo machine is (beside the program)",
            for: fetching),
        .init("stop-timeout", .host, .seconds(\.stopTimeout), "how long the guest may take to power off (60)"),
        .init("qemu", .host, .value("PROGRAM") { $0.set(\.qemu, $1) }, "QEMU to run (qemu-system-x86_64)"),
        .init(
            "qemu-arg", .host, .list("ARG") { $0.add(\.qemuArguments, [$1]) },
            "one more argument for QEMU, as it is; may be given many times"),
        .init(
            "qemu-user", .host, .value("USER") { $0.set(\.qemuUser, $1) },
            "user that QEMU runs as when started by root (one of each machine's own)"),
        .init(
            "uid-range", .host, .value("FIRST-LAST") { $0.set(\.uidRange, UserRange($1)) },
            "users of whom each machine that root starts has one (\(UserRange.usual))"),

        .init("dry-run", .output, .toggle(\.dryRun), "print what would be done, as commands, and do nothing"),
        .init("json", .output, .toggle(\.json), "print JSON for programs", for: all),
        .init("quiet", .output, letter: "q", .flag { if $1 { $0.verbosity = .quiet } }, "print errors only", for: all),
        .init(
            "verbose", .output, letter: "v", .flag { if $1 { $0.verbosity = .verbose } }, "print each step", for: all),
        .init("help", .output, letter: "h", .flag { if $1 { $0.verb = .help } }, "print the help", for: all),
        .init("version", .output, .flag { if $1 { $0.verb = .version } }, "print the version", for: all),
        .init("now", .host, .toggle(\.now), "stop: at once, without the power button", for: [.stop]),
        .init("login", .output, letter: "l", .text("USER", \.login), "ssh: as whom (as ssh is set up)", for: [.ssh]),
        .init("identity", .output, letter: "i", .text("FILE", \.identity), "ssh: with this key", for: [.ssh]),
        .init("health", .output, .toggle(\.health), "status: only whether all is well, for probes", for: [.status]),
        .init("watch", .output, .toggle(\.watch), "ports: again each second", for: [.ports]),
        .init(
            "all", .host, .toggle(\.all), "release: every machine left behind; images rm: all",
            for: [.release, .images]),
        .init(
            "force", .host, .toggle(\.force),
            "disk rebase: onto any image; images rm: under kept disks too",
            for: [.disk, .images]),
        .init(
            "forget", .host, .toggle(\.forget),
            "release: drop what another version of snabbvm left and this one can't read", for: [.release]),
    ]
}

extension OptionRow.Kind {
    fileprivate static func toggle(_ field: WritableKeyPath<Arguments, Bool> & Sendable) -> OptionRow.Kind {
        .flag { $0[keyPath: field] = $1 }
    }

    fileprivate static func text(
        _ placeholder: String, _ field: WritableKeyPath<Arguments, String?> & Sendable
    ) -> OptionRow.Kind {
        .value(placeholder) { $0.set(field, $1.isEmpty ? nil : $1) }
    }

    fileprivate static func number<Number: Comparable & LosslessStringConvertible & Sendable>(
        _ placeholder: String, _ range: ClosedRange<Number>, _ field: WritableKeyPath<Arguments, Number> & Sendable
    ) -> OptionRow.Kind {
        .value(placeholder) { $0.set(field, Number($1).flatMap { range.contains($0) ? $0 : nil }) }
    }

    fileprivate static func seconds(_ field: WritableKeyPath<Arguments, Double> & Sendable) -> OptionRow.Kind {
        number("SECONDS", 0...86400, field)
    }

    fileprivate static func choice<Choice: RawRepresentable<String> & CaseIterable & Sendable>(
        _ field: WritableKeyPath<Arguments, Choice> & Sendable
    ) -> OptionRow.Kind {
        .value(Choice.choices) { $0.set(field, Choice(rawValue: $1)) }
    }
}

extension CaseIterable where Self: RawRepresentable<String> {
    fileprivate static var choices: String { allCases.map(\.rawValue).joined(separator: "|") }
}

extension Arguments {
    /// Sets the field, or says that the text was no value for it.
    fileprivate mutating func set<Value>(_ field: WritableKeyPath<Arguments, Value>, _ value: Value?) -> Bool {
        guard let value else { return false }
        self[keyPath: field] = value
        return true
    }

    /// The same for a field that may be empty: no value is no value here too, not an empty field.
    fileprivate mutating func set<Value>(_ field: WritableKeyPath<Arguments, Value?>, _ value: Value?) -> Bool {
        guard let value else { return false }
        self[keyPath: field] = value
        return true
    }

    fileprivate mutating func add<Value>(_ field: WritableKeyPath<Arguments, [Value]>, _ values: [Value]?) -> Bool {
        set(field, values.map { self[keyPath: field] + $0 })
    }
}

extension HugepageChoice {
    fileprivate init?(_ text: String) {
        let words: [String: HugepageChoice] = ["auto": .auto, "off": .off, "required": .required]
        let size = ByteCount(text, unit: 1 << 20).flatMap { [2 << 20, 1 << 30].contains($0.bytes) ? $0 : nil }
        guard let choice = words[text] ?? size.map(HugepageChoice.size) else { return nil }
        self = choice
    }
}

extension VNCChoice {
    /// `off`, `5901`, `127.0.0.1:5901`, `[::1]:5901`; a display number as VNC viewers write it (`:1`) works too.
    fileprivate init?(_ text: String) {
        if text == "off" {
            self = .off
            return
        }
        let colon = text.lastIndex(of: ":")
        var host = colon.map { String(text[..<$0]) } ?? ""
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard let number = Int(colon.map { text[text.index(after: $0)...] } ?? text[...]), number >= 0 else {
            return nil
        }
        let port = number < 100 ? 5900 + number : number
        guard (5900...65535).contains(port), host.isEmpty || IPAddress(host) != nil else { return nil }
        self = .at(SocketAddress(host: host, port: port))
    }
}

extension String {
    var isMachineName: Bool {
        // A folder called images is beside those of the machines.
        guard let first, first.isASCII, first.isLetter || first.isNumber, count <= 64, self != "images" else {
            return false
        }
        return allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_-.".contains($0)) }
    }

    fileprivate var isHostname: Bool {
        guard !isEmpty, utf8.count <= 253 else { return false }
        return split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            (1...63).contains(label.count) && label.first != "-" && label.last != "-"
                && label.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") }
        }
    }

    /// `NAME: VALUE`, or a file of such lines.
    fileprivate var isHeaderLine: Bool { hasPrefix("@") || dropFirst().contains(":") }
}
