import Model
import Values

/// What cloud-init is told of the machine's NICs, in both of the forms that it knows. JSON is YAML.
struct GuestNetworkConfig {
    let networkConfig: JSON
    let networkData: JSON

    /// nil where there is nothing to say that a guest would not do by itself.
    init?(_ networks: [GuestNICPlan]) {
        if !networks.contains(where: \.isKernels) { return nil }
        // A guest sets up none but those that are told.
        let told = networks.filter { $0.mode != .none }
        let interfaces = told.map { ($0.name, Self.interface($0)) }
        networkConfig = ["version": 2, "ethernets": .object(Dictionary(interfaces) { $1 })]
        let servers = told.flatMap(\.nameservers).reduce(into: [IPAddress]()) { if !$0.contains($1) { $0.append($1) } }
        networkData = [
            "links": .array(told.map(Self.link)), "networks": .array(told.flatMap(Self.networks)),
            "services": .array(servers.map { ["type": "dns", "address": .string("\($0)")] }),
        ]
    }

    private static func interface(_ plan: GuestNICPlan) -> JSON {
        var fields: [String: JSON] = ["match": ["macaddress": .string(plan.mac.description)]]
        if plan.mode == .user {
            fields["dhcp4"] = true
            return .object(fields)
        }
        let asks = plan.usesDHCP && plan.addresses.isEmpty
        fields["dhcp4"] = .bool(asks)
        if !asks { fields["dhcp6"] = false }
        if let mtu = plan.mtu { fields["mtu"] = .integer(Int64(mtu)) }
        if !plan.addresses.isEmpty {
            fields["addresses"] = .array(plan.addresses.map { .string("\($0.address)") })
            let defaults = plan.addresses.compactMap(\.defaultRoute)
            let routes = (defaults + plan.routes).map { route -> JSON in
                let (to, gateway) = (route.destination, route.gateway)
                var words: [String: JSON] = ["to": .string("\(to)"), "via": .string("\(gateway)")]
                let isInside = gateway.isLinkLocal || plan.addresses.contains { $0.address.contains(gateway) }
                if to.prefix == 0, !isInside { words["on-link"] = true }
                return .object(words)
            }
            if !routes.isEmpty { fields["routes"] = .array(routes) }
        }
        if !plan.nameservers.isEmpty || !plan.searchDomains.isEmpty {
            fields["nameservers"] = [
                "addresses": .array(plan.nameservers.map { .string("\($0)") }),
                "search": .array(plan.searchDomains.map(JSON.string)),
            ]
        }
        return .object(fields)
    }

    private static func link(_ plan: GuestNICPlan) -> JSON {
        var fields: [String: JSON] = [
            "id": .string(plan.name), "type": "phy", "ethernet_mac_address": .string(plan.mac.description),
        ]
        if let mtu = plan.mtu { fields["mtu"] = .integer(Int64(mtu)) }
        return .object(fields)
    }

    private static func networks(_ plan: GuestNICPlan) -> [JSON] {
        if plan.addresses.isEmpty || plan.mode == .user {
            return plan.usesDHCP
                ? [["id": .string("\(plan.name)-dhcp"), "link": .string(plan.name), "type": "ipv4_dhcp"]] : []
        }
        return plan.addresses.enumerated().map { index, assigned in
            let address = assigned.address
            // Each further route stands with the first address of its family.
            let isFirst = plan.addresses.firstIndex { $0.address.family == address.family } == index
            let further = isFirst ? plan.routes.filter { $0.gateway.family == address.family } : []
            let routes = ([assigned.defaultRoute].compactMap(\.self) + further).map { route -> JSON in
                let (to, gateway) = (route.destination, route.gateway)
                return [
                    "network": .string("\(to.first)"), "netmask": .string("\(to.netmask)"),
                    "gateway": .string("\(gateway)"),
                ]
            }
            return [
                "id": .string("\(plan.name)-\(index)"), "link": .string(plan.name),
                "type": address.family.isSix ? "ipv6" : "ipv4", "ip_address": .string("\(address.address)"),
                "netmask": .string("\(address.netmask)"), "routes": .array(routes),
            ]
        }
    }
}

extension GuestAddress {
    fileprivate var defaultRoute: GuestNICPlan.FurtherRoute? {
        gateway.map { .init(destination: NetworkAddress(IPAddress($0.family, 0), prefix: 0), gateway: $0) }
    }
}
