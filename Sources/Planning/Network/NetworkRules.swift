import Model
import Values

/// What nftables is told: one table of ours in each family that is needed, all made and removed together.
struct NetworkRules {
    private enum Family: String { case bridge, inet, netdev }

    /// Where packets are looked at: a chain's name, and what it is hooked into.
    private typealias Hook = (chain: String, text: String)

    private struct Chain {
        var family: Family
        var hook: Hook
        var rules: [String]
    }

    let name: String
    /// Where the launcher itself listens.
    let ownListeners: [Int]
    private var chains: [Chain] = []
    private var sets: [String] = []
    /// Where packets are passed on for the machine's sake alone: bridges, the taps of machines behind an address, and
    /// the interfaces that did not pass any on before; for IPv6 those are all.
    private var bridges: [String] = []
    private var taps: [String] = []
    private var opened: [String: [String]] = [:]

    init(name: String, ownListeners: [Int]) {
        self.name = name
        self.ownListeners = ownListeners
    }

    private var usedFamilies: [Family] {
        [.bridge, .inet, .netdev].filter { family in chains.contains { $0.family == family } }
    }
    var families: [String] { usedFamilies.map(\.rawValue) }

    var text: String? {
        if chains.isEmpty { return nil }
        var closed = self
        closed.add(.inet, Self.through, closing)
        var lines: [String] = []
        for family in closed.usedFamilies {
            lines.append("table \(family.rawValue) \(name) {")
            if family == .netdev { lines += sets.map { "    \($0)" } }
            for chain in closed.chains where chain.family == family {
                lines += ["    chain \(chain.hook.chain) {", "        type \(chain.hook.text); policy accept;"]
                lines += chain.rules.map { "        \($0)" } + ["    }"]
            }
            lines.append("}")
        }
        return lines.text
    }

    private static let through: Hook = ("through", "filter hook forward priority filter")
    private static let toUs: Hook = ("to_us", "filter hook input priority filter")
    private static let fromUs: Hook = ("from_us", "filter hook output priority filter")
    private static let source: Hook = ("source", "nat hook postrouting priority srcnat")
    private static let destination: Hook = ("destination", "nat hook prerouting priority dstnat")

    private mutating func add(_ family: Family, _ hook: Hook, _ rules: [String]) {
        if let index = chains.firstIndex(where: { $0.family == family && $0.hook.chain == hook.chain }) {
            chains[index].rules += rules
        } else if !rules.isEmpty {
            chains.append(Chain(family: family, hook: hook, rules: rules))
        }
    }

    private func list(_ items: [some CustomStringConvertible]) -> String {
        "{ \(items.map(\.description).joined(separator: ", ")) }"
    }

    /// What keeps the container from becoming a router for others: packets go on to the machine, and from a bridge into
    /// that bridge.
    private var closing: [String] {
        opened.sorted { $0.key < $1.key }.flatMap { kind, inputs -> [String] in
            var sides = bridges.filter { kind == "ipv6" || inputs.contains($0) }.map {
                (from: "iifname \"\($0)\"", to: [$0] + taps)
            }
            let others = inputs.filter { !bridges.contains($0) }
            if kind == "ipv6" {
                sides.append(("iifname != \(list(quoted(taps + bridges)))", taps))
            } else if !others.isEmpty {
                sides.append(("iifname \(list(quoted(others)))", taps))
            }
            return sides.map { from, to in
                let elsewhere = to.isEmpty ? "" : " oifname != \(list(quoted(to)))"
                return "meta nfproto \(kind) \(from)\(elsewhere) drop"
            }
        }
    }

    private func quoted(_ names: [String]) -> [String] { names.map { "\"\($0)\"" } }

    // MARK: - Bridge

    /// DHCP is between the machine and us: nobody else is answered, or answers. `outside` is the container's interface,
    /// nil in a bridge that others use as well.
    mutating func guardBridge(_ plan: GuestNICPlan, outside: String?, hearsRouters: Bool, relaysNames: Bool) {
        let (from, to) = ("iifname \"\(plan.device ?? "")\"", "oifname \"\(plan.device ?? "")\"")
        // Other bridges, and others in this one, are none of our business.
        add(.bridge, Self.through, [from, to].flatMap { side in largestSegments(plan).map { "\(side) \($0)" } })
        if let outside, !hearsRouters {
            // The bridge would hear, and believe, what the interface did not.
            add(.bridge, Self.toUs, ["iifname \"\(outside)\" icmpv6 type nd-router-advert drop"])
        }
        let names = "meta l4proto { tcp, udp } th dport 53 drop"
        if outside == nil, relaysNames, let bridge = plan.bridge {
            // Others in it have servers of their own.
            add(.inet, Self.toUs, ["iifname \"\(bridge)\" ether saddr != \(plan.mac) \(names)"])
        }
        guard plan.usesDHCP, !plan.addresses.isEmpty else { return }
        add(.bridge, Self.through, ["\(from) udp dport { 67, 547 } drop", "\(to) udp sport { 67, 547 } drop"])
        guard let outside else { return }
        add(.bridge, Self.toUs, ["iifname \"\(outside)\" udp dport { 67, 547 } drop"])
        if relaysNames { add(.bridge, Self.toUs, ["iifname \"\(outside)\" \(names)"]) }
        let answers = ["udp sport { 67, 547 }", "icmpv6 type nd-router-advert"]
        add(.bridge, Self.fromUs, answers.map { "oifname \"\(outside)\" \($0) drop" })
    }

    /// Guests that take no notice of the MTU think of Ethernet's 1500.
    private func largestSegments(_ plan: GuestNICPlan) -> [String] {
        guard let mtu = plan.mtu, mtu < 1500 else { return [] }
        return [("ip", 40), ("ip6", 60)].map { kind, header in
            let size = mtu - header
            return
                "ether type \(kind) tcp flags syn tcp option maxseg size > \(size) tcp option maxseg size set \(size)"
        }
    }

    /// Ports of the container's address lead to the machine beside it. It must take the container for who asks, or it
    /// would answer past it.
    mutating func publish(
        _ plan: GuestNICPlan, to guest: IPAddress, own: [IPAddress], on bridge: String, isNoRouter: Bool
    ) {
        if !bridges.contains(bridge) { bridges.append(bridge) }
        if isNoRouter { opened[guest.isSix ? "ipv6" : "ipv4", default: []].append(bridge) }
        addForwards(plan, to: guest, own: own, from: "")
        add(.inet, Self.source, ["ct status dnat \(guest.keyword) daddr \(guest) masquerade"])
        // The kernel would tell whoever asks that there is a shorter way.
        add(.inet, Self.fromUs, [guest.isSix ? "icmpv6 type nd-redirect drop" : "icmp type redirect drop"])
    }

    private mutating func addForwards(_ plan: GuestNICPlan, to guest: IPAddress, own: [IPAddress], from: String) {
        for port in plan.published {
            let given = port.address.flatMap { IPAddress($0) }
            let here = (given.map { $0.value == 0 ? own : [$0] } ?? own).filter { $0.family == guest.family }
            if here.isEmpty { continue }
            let match = "\(from)\(guest.keyword) daddr \(list(here)) \(port.udp ? "udp" : "tcp") dport \(port.host)"
            let target = guest.isSix ? "[\(guest)]" : "\(guest)"
            add(.inet, Self.destination, ["\(match) dnat \(guest.keyword) to \(target):\(port.guest)"])
        }
    }

    // MARK: - NAT

    /// All that comes to the container goes on to the machine, but for what the launcher listens for.
    /// `opened` are the kinds of which packets are passed on for the machine's sake alone.
    mutating func translate(_ plan: GuestNICPlan, outside: String, own: [IPAddress], opened: Set<String>) {
        let tap = plan.device ?? ""
        taps.append(tap)
        for kind in opened { self.opened[kind, default: []].append(outside) }
        for guest in plan.addresses.map(\.address.address) {
            let here = own.filter { $0.family == guest.family }
            let kind = guest.keyword
            if !here.isEmpty {
                let from = "iifname \"\(outside)\" "
                addForwards(plan, to: guest, own: here, from: from)
                let match = "\(from)\(kind) daddr \(list(here))"
                let others = ownListeners.isEmpty ? "" : " tcp dport != \(list(ownListeners))"
                let protocols = ["tcp\(others)", "!= tcp"]
                add(.inet, Self.destination, protocols.map { "\(match) meta l4proto \($0) dnat \(kind) to \(guest)" })
            }
            add(.inet, Self.source, ["oifname != \"\(tap)\" \(kind) saddr \(guest) masquerade"])
        }
        let sides = ["iifname", "oifname"]
        add(.inet, Self.through, sides.map { "\($0) \"\(tap)\" tcp flags syn tcp option maxseg size set rt mtu" })
    }

    // MARK: - Takeover

    /// What marks the machine's frames on their way out.
    private static let mark = "0x5b"

    /// Frames go straight between the container's interface and the machine, which both have the same addresses. The
    /// container keeps what comes for the launcher's own ports, and what answers its own packets.
    mutating func takeOver(_ plan: GuestNICPlan, from outside: String, as ours: IPAddress, ourMAC: MACAddress) {
        let tap = plan.device ?? ""
        guard let alias = plan.reachedAt else { return }
        let addresses = plan.addresses.map(\.address.address)
        sets += [("own4", "ipv4_addr"), ("own6", "ipv6_addr")].map { set, type in
            "set \(plan.name)_\(set) { type inet_proto . \(type) . inet_service . inet_service; size 65535;"
                + " flags dynamic,timeout; timeout 12h; }"
        }
        let answers = [("ip", "own4"), ("ip6", "own6")]
        let copied = "dup to \"\(tap)\" accept"
        let toOwnPorts =
            ownListeners.isEmpty
            ? [] : addresses.map { "\($0.keyword) daddr \($0) tcp dport \(list(ownListeners)) accept" }
        let hook = { (name: String, side: String, device: String) -> Hook in
            ("\(plan.name)_\(name)", "filter hook \(side) device \"\(device)\" priority filter")
        }
        add(
            .netdev, hook("in", "ingress", outside),
            largestSegments(plan) + [
                "ether type arp \(copied)",
                "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } \(copied)",
                "icmp type { echo-reply, destination-unreachable, time-exceeded, parameter-problem } \(copied)",
                "icmpv6 type { echo-reply, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } \(copied)",
            ] + toOwnPorts
                + answers.map { "meta l4proto . \($0) saddr . th sport . th dport @\(plan.name)_\($1) accept" }
                // Whose the rest of a packet is shows in its first fragment alone: both get it.
                + ["ip frag-off & 0x1fff != 0 \(copied)", "exthdr frag exists \(copied)", "fwd to \"\(tap)\""])
        let asked = answers.map { kind, set in
            "meta l4proto { tcp, udp } update @\(plan.name)_\(set) { meta l4proto . \(kind) daddr . th dport . th sport }"
        }
        add(.netdev, hook("out", "egress", outside), ["meta mark \(Self.mark) accept"] + asked)
        let fromGuest = hook("from_guest", "ingress", tap)
        add(.netdev, fromGuest, largestSegments(plan) + ["ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept"])
        if let four = addresses.first(where: { !$0.isSix }) {
            let toUs = "ether daddr set \(ourMAC) meta pkttype set host ip saddr set \(alias) accept"
            add(.netdev, fromGuest, ["ip daddr \(ours) \(toUs)"])
            add(.netdev, hook("to_guest", "egress", tap), ["ip daddr \(alias) ip daddr set \(four)"])
        }
        add(.netdev, fromGuest, ["meta mark set \(Self.mark) fwd to \"\(outside)\""])
    }
}

extension IPAddress {
    fileprivate var keyword: String { isSix ? "ip6" : "ip" }
}
