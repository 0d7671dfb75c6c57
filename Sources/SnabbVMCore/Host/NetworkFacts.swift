import Glibc

extension Facts {
    /// The network that the launcher is in: a container's own, or the host's.
    struct Network: Codable, Equatable {
        /// Not the one in which the host itself is.
        var isOwn: Bool
        /// Which network namespace it is.
        var namespace: UInt64 = 0
        var links: [Link] = []
        var routes: [Route] = []
        /// Those that were set by hand for good.
        var neighbours: [Neighbour] = []
        var nameservers: [IPAddress] = []
        var searchDomains: [String] = []
        /// Which interfaces forward packets, `ipv4/eth0` and so on; and whether that can be changed.
        var forwarding: [String: Bool] = [:]
        var canSetForwarding = false
        var hasVhost = false
    }

    struct Link: Codable, Equatable {
        var name: String
        /// nil where it is none of Ethernet.
        var mac: MACAddress?
        var mtu: Int
        var isUp: Bool
        /// veth, bridge, tun, macvtap …; nil for a device.
        var kind: String?
        var master: String?
        var addresses: [Address] = []
        var tap: Tap?
        /// The device file of a macvtap, by its numbers.
        var macvtap: String?
        /// Whether it listens to routers (1), even if it is one itself (2).
        var acceptsAdvertisements: Int?
        var hasIPv6 = true

        /// Those that it was given.
        var ownAddresses: [Address] { addresses.filter { !$0.isLinkLocal } }

        struct Tap: Codable, Equatable {
            /// Who may open it; nil for anybody.
            var owner: UInt32?
            var hasGroup = false
            var isMultiQueue = false
        }
    }

    struct Address: Codable, Equatable {
        var address: NetworkAddress
        /// Given to it by the kernel because of its MAC address.
        var isLinkLocal = false
        /// What `ip address add` is told, after the address; the label apart, since it holds the interface's name.
        var words: [String] = []
        var label: String?
    }

    struct Neighbour: Codable, Equatable {
        var address: IPAddress
        var mac: MACAddress
        var device: String
    }

    struct Route: Codable, Equatable {
        var family: IPAddress.Family
        /// `0.0.0.0/0` for the default route.
        var destination: NetworkAddress
        var gateway: IPAddress?
        var device: String
        /// The kernel makes it with an address.
        var isAutomatic = false
        /// What `ip route add` is told, but for the device; nil for what can't be told so.
        var words: [String]?
        var isMain = true
    }
}

extension Facts.Network {
    func link(_ name: String) -> Facts.Link? { links.first { $0.name == name } }

    func defaultRoute(of device: String, _ family: IPAddress.Family) -> Facts.Route? {
        routes.first { $0.device == device && $0.family == family && $0.destination.prefix == 0 && $0.isMain }
    }

    /// The interface that leads out: with the default route, or called eth0, as engines do.
    var uplink: Facts.Link? {
        let leading = routes.filter { $0.destination.prefix == 0 && $0.isMain && $0.gateway != nil }
        if let route = leading.first(where: { $0.family == .four }) ?? leading.first { return link(route.device) }
        return links.first { $0.name == "eth0" && $0.isUp && $0.master == nil }
    }

    /// Files of `/proc/sys` that say whether the host's own network is this one: only there are the settings of all.
    static func isOwn(_ tree: FileTree) -> Bool {
        tree.exists("/proc/sys/net") && !tree.exists("/proc/sys/net/core/dev_weight")
    }

    /// From what `ip -json -details address` and `ip -json route show table all` print.
    init(_ tree: FileTree, addresses: JSON, routes: JSON, neighbours: JSON = []) {
        isOwn = Self.isOwn(tree)
        namespace = Self.currentNamespace
        self.neighbours = (neighbours.array ?? []).compactMap { json in
            guard let address = json["dst"]?.string.flatMap({ IPAddress($0) }),
                let mac = json["lladdr"]?.string.flatMap({ MACAddress($0) }), let device = json["dev"]?.string
            else { return nil }
            return Facts.Neighbour(address: address, mac: mac, device: device)
        }
        links = (addresses.array ?? []).compactMap { Facts.Link($0, tree) }
        self.routes = (routes.array ?? []).flatMap(Facts.Route.all)
        (nameservers, searchDomains) = Self.resolver(tree.text("/etc/resolv.conf") ?? "")
        for key in (links.map(\.name) + ["default", "all"]).flatMap({ ["ipv4/\($0)", "ipv6/\($0)"] }) {
            forwarding[key] = tree.number(Self.forwardingFile(key)).map { $0 != 0 }
        }
        canSetForwarding = access(tree.path(Self.forwardingFile("ipv4/all")), W_OK) == 0
        hasVhost = access(tree.path("/dev/vhost-net"), R_OK | W_OK) == 0
    }

    static var currentNamespace: UInt64 { (try? Files.status("/proc/self/ns/net")).map { UInt64($0.st_ino) } ?? 0 }

    static func advertisementsFile(_ link: String) -> String { "/proc/sys/net/ipv6/conf/\(link)/accept_ra" }

    /// Whether it has learned from routers what they tell.
    func listens(_ link: Facts.Link) -> Bool {
        link.acceptsAdvertisements == 1
            && routes.contains { $0.device == link.name && $0.words?.contains("ra") == true }
    }

    static func forwardingFile(_ key: String) -> String {
        let parts = key.split(separator: "/", maxSplits: 1)
        return "/proc/sys/net/\(parts[0])/conf/\(parts[1])/forwarding"
    }

    static func resolver(_ text: String) -> (servers: [IPAddress], search: [String]) {
        var servers: [IPAddress] = []
        var search: [String] = []
        for line in text.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }.map(String.init)
            guard let first = words.first else { continue }
            // A zone, as in fe80::1%eth0, means nothing elsewhere.
            let server = words.dropFirst().first.flatMap { word in IPAddress(word.prefix { $0 != "%" }) }
            if first == "nameserver", let server { servers.append(server) }
            // The last one counts.
            if ["search", "domain"].contains(first) {
                search = words.dropFirst().filter { $0 != "." && $0.isDomain }
            }
        }
        return (servers, search)
    }
}

extension String {
    fileprivate var isDomain: Bool {
        split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            (1...63).contains(label.utf8.count)
                && label.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_".contains($0)) }
        }
    }
}

extension Facts.Link {
    fileprivate init?(_ json: JSON, _ tree: FileTree) {
        guard let name = json["ifname"]?.string else { return nil }
        self.name = name
        mac = json["address"]?.string.flatMap { MACAddress($0) }
        mtu = Int(json["mtu"]?.integer ?? 1500)
        isUp = (json["flags"]?.array ?? []).contains { $0.string == "UP" }
        kind = json["linkinfo"]?["info_kind"]?.string
        master = json["master"]?.string
        addresses = (json["addr_info"]?.array ?? []).compactMap(Facts.Address.init)
        acceptsAdvertisements = tree.number(Facts.Network.advertisementsFile(name))
        hasIPv6 = tree.number("/proc/sys/net/ipv6/conf/\(name)/disable_ipv6") == 0
        // Not from /sys, which can be that of another network.
        if let details = json["linkinfo"]?["info_data"], kind == "tun", details["type"]?.string == "tap" {
            let owner = details["user"].map { $0.string ?? $0.text }
            tap = Tap(
                owner: owner.flatMap { UInt32($0) ?? (try? User.named($0, in: tree)).map { $0?.uid ?? 0 } },
                hasGroup: details["group"] != nil, isMultiQueue: details["multi_queue"]?.bool == true)
        }
        if kind == "macvtap", let index = json["ifindex"]?.integer {
            let folder = "/sys/class/net/\(name)"
            if tree.number("\(folder)/ifindex") == Int(index) {
                macvtap = tree.line("\(folder)/tap\(index)/dev")
            }
        }
    }
}

extension Facts.Address {
    fileprivate init?(_ json: JSON) {
        guard let local = json["local"]?.string.flatMap({ IPAddress($0) }), let prefix = json["prefixlen"]?.integer,
            json["temporary"]?.bool != true
        else { return nil }
        address = NetworkAddress(local, prefix: Int(prefix))
        isLinkLocal = json["scope"]?.string == "link" && local.isSix
        label = json["label"]?.string
        // With a peer, the prefix is the peer's.
        words = [json["address"]?.string.map { "\(local) peer \($0)/\(prefix)" } ?? "\(address)"]
        for (key, word) in [("broadcast", "broadcast"), ("scope", "scope"), ("metric", "metric")] {
            if let value = json[key].map({ $0.string ?? $0.text }) { words += [word, value] }
        }
        for flag in ["nodad", "noprefixroute", "home", "mngtmpaddr", "autojoin"] where json[flag]?.bool == true {
            words.append(flag)
        }
        for (key, word) in [("valid_life_time", "valid_lft"), ("preferred_life_time", "preferred_lft")] {
            if let seconds = json[key]?.integer, seconds != Int64(UInt32.max) { words += [word, "\(seconds)"] }
        }
    }
}

extension Facts.Route {
    private static let understood: Set<String> = [
        "type", "dst", "gateway", "via", "dev", "protocol", "scope", "prefsrc", "metric", "flags", "pref", "table",
        "metrics", "expires", "src", "tos", "cache",
    ]

    /// One for each interface that it leads to, if those are several.
    fileprivate static func all(_ json: JSON) -> [Facts.Route] {
        guard let hops = json["nexthops"]?.array, case .object(var fields) = json else {
            return [Facts.Route(json)].compactMap(\.self)
        }
        let devices = Set(hops.compactMap { $0["dev"]?.string })
        return devices.compactMap {
            fields["dev"] = .string($0)
            return Facts.Route(.object(fields))
        }
    }

    private init?(_ json: JSON) {
        guard let fields = json.object, let destination = fields["dst"]?.string, let device = fields["dev"]?.string
        else { return nil }
        // What the kernel has there it makes by itself.
        let isOdd = fields["table"]?.string == "local" || fields["type"]?.string.map { $0 != "unicast" } ?? false
        if isOdd, fields["protocol"]?.string == "kernel" { return nil }
        self.device = device
        let via = fields["via"]?["host"]?.string
        gateway = (fields["gateway"]?.string ?? via).flatMap { IPAddress($0) }
        let isSix = fields["pref"] != nil || destination.contains(":")
        family = isSix ? .six : .four
        let whole = destination.contains("/") ? destination : "\(destination)/\(family.bits)"
        let any = NetworkAddress(IPAddress(family, 0), prefix: 0)
        guard let parsed = destination == "default" ? any : NetworkAddress(whole) else { return nil }
        self.destination = parsed
        isAutomatic = fields["protocol"]?.string == "kernel"
        isMain = fields["table"] == nil || fields["table"]?.string == "main"
        words =
            Self.understood.isSuperset(of: fields.keys) ? Self.words(fields, destination: "\(parsed)", via: via) : nil
    }

    private static func words(_ fields: [String: JSON], destination: String, via: String?) -> [String] {
        var words = [destination]
        if let gateway = fields["gateway"]?.string { words += ["via", gateway] }
        if let via { words += ["via", "inet6", via] }
        let rest = [
            ("protocol", "proto"), ("scope", "scope"), ("prefsrc", "src"), ("metric", "metric"), ("table", "table"),
            ("expires", "expires"), ("tos", "tos"), ("pref", "pref"),
        ]
        for (key, word) in rest {
            if let value = fields[key].map({ $0.string ?? $0.text }) { words += [word, value] }
        }
        for metrics in fields["metrics"]?.array ?? [] {
            for (name, value) in (metrics.object ?? [:]).sorted(by: { $0.key < $1.key }) {
                words += [name, value.text]
            }
        }
        if (fields["flags"]?.array ?? []).contains(where: { $0.string == "onlink" }) { words.append("onlink") }
        return words
    }
}

/// Asks iproute2 while other things are looked at.
struct NetworkInspection {
    private let jobs: [Job]

    init(_ ip: String, _ loop: EventLoop) throws {
        jobs = try [
            ["-json", "-details", "address"], ["-json", "route", "show", "table", "all"],
            ["-json", "neighbour", "show", "nud", "permanent"],
        ].map {
            try Job(Command(program: ip, arguments: $0), in: loop, limit: .seconds(20), kind: .host)
        }
    }

    func finish() throws -> Facts.Network {
        let answers = try jobs.map { job in
            let output = try job.finish(.host, "ask ip about", "the network")
            // Nothing at all is said of no neighbours.
            if output.isEmpty { return JSON.array([]) }
            do { return try JSON(parsing: output) } catch {
                throw Failure(.host, "understand", "what ip says of the network", "\(error)")
            }
        }
        return Facts.Network(FileTree(), addresses: answers[0], routes: answers[1], neighbours: answers[2])
    }
}
