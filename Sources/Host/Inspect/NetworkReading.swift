import CLinux
import Glibc
import Model
import System
import Values

extension HostFacts.Network {
    /// From what `ip -json -details address` and `ip -json route show table all` print.
    init(_ tree: FileTree, addresses: JSON, routes: JSON, neighbours: JSON = []) {
        // The settings that are the whole kernel's are shown in the host's own network alone.
        self.init(isOwn: tree.exists("/proc/sys/net") && !tree.exists("/proc/sys/net/core/dev_weight"))
        namespace = Self.currentNamespace
        self.neighbours = (neighbours.array ?? []).compactMap { json in
            guard let address = json["dst"]?.string.flatMap({ IPAddress($0) }),
                let mac = json["lladdr"]?.string.flatMap({ MACAddress($0) }), let device = json["dev"]?.string
            else { return nil }
            return HostFacts.Neighbour(address: address, mac: mac, device: device)
        }
        links = (addresses.array ?? []).compactMap { HostFacts.Link($0, tree) }
        self.routes = (routes.array ?? []).flatMap(HostFacts.Route.all)
        (nameservers, searchDomains) = Self.resolver(tree.text("/etc/resolv.conf") ?? "")
        for key in (links.map(\.name) + ["default", "all"]).flatMap({ ["ipv4/\($0)", "ipv6/\($0)"] }) {
            forwarding[key] = tree.number(Self.forwardingFile(key)).map { $0 != 0 }
        }
        canSetForwarding = access(tree.path(Self.forwardingFile("ipv4/all")), W_OK) == 0
        hasVhost = access(tree.path("/dev/vhost-net"), R_OK | W_OK) == 0
    }

    static var currentNamespace: UInt64 { (try? Files.status("/proc/self/ns/net")).map { UInt64($0.st_ino) } ?? 0 }

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

extension HostFacts.Link {
    fileprivate init?(_ json: JSON, _ tree: FileTree) {
        guard let name = json["ifname"]?.string else { return nil }
        self.init(name: name)
        mac = json["address"]?.string.flatMap { MACAddress($0) }
        mtu = json["mtu"]?.integer.map { Int($0) } ?? mtu
        isUp = (json["flags"]?.array ?? []).contains { $0.string == "UP" }
        kind = json["linkinfo"]?["info_kind"]?.string
        master = json["master"]?.string
        addresses = (json["addr_info"]?.array ?? []).compactMap(HostFacts.Address.init)
        acceptsAdvertisements = tree.number(HostFacts.Network.advertisementsFile(name))
        hasIPv6 = tree.number("/proc/sys/net/ipv6/conf/\(name)/disable_ipv6") == 0
        // Not from /sys, which can be that of another network.
        if let details = json["linkinfo"]?["info_data"], kind == "tun", details["type"]?.string == "tap" {
            let owner = details["user"].map { $0.string ?? $0.text }
            tap = Tap(owner: owner.flatMap { UInt32($0) ?? (try? User.named($0, in: tree)).map(\.uid) })
            tap?.hasGroup = details["group"] != nil
            tap?.isMultiQueue = details["multi_queue"]?.bool == true
        }
        if kind == "macvtap", let index = json["ifindex"]?.integer {
            let folder = "/sys/class/net/\(name)"
            if tree.number("\(folder)/ifindex") == Int(index) {
                macvtap = tree.line("\(folder)/tap\(index)/dev")
            }
        }
    }
}

extension HostFacts.Address {
    fileprivate init?(_ json: JSON) {
        guard let local = json["local"]?.string.flatMap({ IPAddress($0) }), let prefix = json["prefixlen"]?.integer,
            json["temporary"]?.bool != true
        else { return nil }
        self.init(address: NetworkAddress(local, prefix: Int(prefix)))
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

extension HostFacts.Route {
    private static let understood: Set<String> = [
        "type", "dst", "gateway", "via", "dev", "protocol", "scope", "prefsrc", "metric", "flags", "pref", "table",
        "metrics", "expires", "src", "tos", "cache",
    ]

    /// One for each interface that it leads to, if those are several.
    fileprivate static func all(_ json: JSON) -> [HostFacts.Route] {
        guard let hops = json["nexthops"]?.array, case .object(var fields) = json else {
            return [HostFacts.Route(json)].compactMap(\.self)
        }
        let devices = Set(hops.compactMap { $0["dev"]?.string })
        return devices.compactMap {
            fields["dev"] = .string($0)
            return HostFacts.Route(.object(fields))
        }
    }

    private init?(_ json: JSON) {
        guard let fields = json.object, let destination = fields["dst"]?.string, let device = fields["dev"]?.string
        else { return nil }
        // What the kernel has there it makes by itself.
        let isOdd = fields["table"]?.string == "local" || fields["type"]?.string.map { $0 != "unicast" } ?? false
        if isOdd, fields["protocol"]?.string == "kernel" { return nil }
        let via = fields["via"]?["host"]?.string
        let family = fields["pref"] != nil || destination.contains(":") ? IPAddress.Family.six : .four
        let whole = destination.contains("/") ? destination : "\(destination)/\(family.bits)"
        let any = NetworkAddress(IPAddress(family, 0), prefix: 0)
        guard let parsed = destination == "default" ? any : NetworkAddress(whole) else { return nil }
        self.init(family: family, destination: parsed, device: device)
        gateway = (fields["gateway"]?.string ?? via).flatMap { IPAddress($0) }
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
package struct NetworkInspection {
    private let jobs: [Job]

    package init(_ ip: String, _ loop: EventLoop) throws {
        jobs = try [
            ["-json", "-details", "address"], ["-json", "route", "show", "table", "all"],
            ["-json", "neighbour", "show", "nud", "permanent"],
        ].map {
            try Job(Command(program: ip, arguments: $0), in: loop, limit: .seconds(20), kind: .host)
        }
    }

    package func finish() throws -> HostFacts.Network {
        let answers = try jobs.map { job in
            let output = try job.finish(.host, "ask ip about", "the network")
            // Nothing at all is said of no neighbours.
            if output.isEmpty { return JSON.array([]) }
            do { return try JSON(parsing: output) } catch {
                throw Failure(.host, "understand", "what ip says of the network", "\(error)")
            }
        }
        return HostFacts.Network(FileTree(), addresses: answers[0], routes: answers[1], neighbours: answers[2])
    }
}
