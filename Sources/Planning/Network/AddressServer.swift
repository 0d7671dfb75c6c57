import Model
import Values

/// dnsmasq's settings: it gives each NIC its address, and passes on questions for names where only the container can
/// ask them.
struct AddressServer {
    private var lines: [String] = []
    private var upstream: [IPAddress] = []
    private var sendsAdvertisements = false

    var isEmpty: Bool { lines.isEmpty }

    /// `reachesNetwork` where the device has an address of the machine's network; `advertises` where nobody else hears
    /// what routers say to all.
    mutating func add(
        _ plan: GuestNICPlan, on device: String, at own: [IPAddress], reachesNetwork: Bool, advertises: Bool,
        _ nameservers: [IPAddress]
    ) {
        let tag = plan.name
        lines.append("interface=\(device)")
        if plan.nameservers.contains(where: own.contains) { upstream = nameservers }
        var given: [String] = []
        if let four = plan.addresses.first(where: { !$0.address.address.isSix }) {
            let address = four.address
            given.append("\(address.address)")
            lines.append("dhcp-range=set:\(tag),\(address.address),\(address.address),\(address.netmask),infinite")
            if !reachesNetwork { lines.append("shared-network=\(device),\(address.address)") }
            option(tag, "router", four.gateway.map { ["\($0)"] } ?? [], saysNone: true)
            // Who hears of these does not listen to the router above.
            let first = four.gateway.map { [("0.0.0.0/0", $0)] } ?? []
            let further = plan.routes.filter { !$0.gateway.isSix }.map { ("\($0.destination)", $0.gateway) }
            let told = AddressServer.fitting(first + further) { _ in 9 }
            if !further.isEmpty { option(tag, "classless-static-route", told.flatMap { [$0.0, "\($0.1)"] }) }
            option(tag, "dns-server", plan.nameservers.filter { !$0.isSix }.map(\.description), saysNone: true)
            option(tag, "domain-name", plan.searchDomains.prefix(1).map(\.self))
            option(tag, "domain-search", AddressServer.fitting(plan.searchDomains) { $0.utf8.count + 2 })
            if let mtu = plan.mtu { option(tag, "mtu", ["\(mtu)"]) }
        }
        // An address of IPv6 can be given; the way out is in the seed, since only a router can tell it on the wire.
        if advertises, let six = plan.addresses.first(where: { $0.address.address.isSix }),
            own.contains(where: \.isSix)
        {
            let address = six.address
            given.append("[\(address.address)]")
            lines.append(
                "dhcp-range=set:\(tag)six,\(address.address),\(address.address),\(max(64, address.prefix)),infinite")
            let servers = plan.nameservers.filter(\.isSix).map { "[\($0)]" }
            if !servers.isEmpty {
                lines.append("dhcp-option=tag:\(tag)six,option6:dns-server,\(servers.joined(separator: ","))")
            }
            sendsAdvertisements = true
            // Behind our own address we are the router.
            lines.append("ra-param=\(device),60,\(plan.mode == .nat ? 1800 : 0)")
        }
        if given.isEmpty { return }
        lines.append("dhcp-host=\(plan.mac),\(given.joined(separator: ",")),infinite")
    }

    /// As many as an option of DHCP has room for; a seed disk holds all.
    private static func fitting<Item>(_ items: [Item], size: (Item) -> Int) -> [Item] {
        var left = 255
        return Array(
            items.prefix {
                left -= size($0)
                return left >= 0
            })
    }

    private mutating func option(_ tag: String, _ name: String, _ values: [String], saysNone: Bool = false) {
        // Left out, it would be this server itself.
        if values.isEmpty, !saysNone { return }
        lines.append("dhcp-option=tag:\(tag),option:\(name)" + values.map { ",\($0)" }.joined())
    }

    /// The file's text. `leases` is where dnsmasq writes what it has given, and `user` whom it becomes. A guest can ask as
    /// often as it likes, so what it asks is only logged for who wants to see every step.
    func text(leases: String, user: String?, logsQuestions: Bool) -> String {
        var all = [
            "# For this machine alone: nobody else is answered.", "dhcp-ignore=tag:!known", "dhcp-authoritative",
            // All who could hear it have the address already, and a lease is looked at by nobody but us.
            "dhcp-broadcast", "no-ping", "dhcp-leasefile=\(leases)", "pid-file=", "no-hosts", "no-resolv",
            "bind-dynamic", "except-interface=lo", "log-facility=-",
        ]
        all += logsQuestions ? ["log-dhcp"] : ["quiet-dhcp", "quiet-dhcp6", "quiet-ra"]
        // Left out, they would be others all the same, and empty they are those who start it.
        all += user.map { ["user=\($0)"] } ?? ["user=", "group="]
        all.append(upstream.isEmpty ? "port=0" : "port=53")
        all += upstream.map { "server=\($0)" }
        if sendsAdvertisements { all.append("enable-ra") }
        return (all + lines).text
    }
}
