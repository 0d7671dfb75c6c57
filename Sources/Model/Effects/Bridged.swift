import Values

extension Effect {
    /// An interface that is in a bridge of ours, to which its addresses and routes went: a part of what `Links` does.
    package struct Bridged: UnplannedEffect {
        package var state: InterfaceState
        package var bridge: String
        package var namespace: UInt64

        private enum CodingKeys: String, CodingKey {
            case state = "_0"
            case bridge = "by"
            case namespace
        }
    }

    package static func bridged(_ state: InterfaceState, by bridge: String, namespace: UInt64) -> Effect {
        .bridged(Bridged(state: state, bridge: bridge, namespace: namespace))
    }
}

/// An interface of the container as it was before a bridge took its place, and what `ip -batch` is told to get there
/// and back.
package struct InterfaceState: Codable, Equatable {
    package var name: String
    package var addresses: [HostFacts.Address]
    package var routes: [HostFacts.Route]
    package var neighbours: [HostFacts.Neighbour] = []
    /// Networks whose routes stay behind when the addresses go, and would lead past the bridge.
    package var leftovers: [NetworkAddress] = []
}

extension InterfaceState {
    package init(of link: HostFacts.Link, in network: HostFacts.Network) {
        let own = link.ownAddresses
        let routes = network.routes.filter { $0.device == link.name }
        // With an address that is lent the kernel leaves its network's route.
        let lent = own.filter { $0.address.family == .six && $0.words.contains("valid_lft") }.map(\.address.network)
        self.init(
            name: link.name, addresses: own, routes: routes.filter { !$0.isAutomatic },
            neighbours: network.neighbours.filter { $0.device == link.name },
            leftovers: routes.filter { $0.isAutomatic && lent.contains($0.destination) }.map(\.destination))
    }

    /// For a moment both have the addresses: so no packet finds that nobody has them.
    package func moving(to bridge: String) -> [String] {
        var lines = ["link set dev \(bridge) up"] + adding(to: bridge, isNew: true)
        lines += ["link set dev \(name) master \(bridge)"] + routing(from: name, to: bridge) + knowing(on: bridge)
        // The last first: with the first the kernel would take those away that stand on it.
        lines += addresses.reversed().map { "address del \($0.words.first ?? "") dev \(name)" }
        return lines + leftovers.map { "route del \($0) dev \(name) proto kernel" }
    }

    /// The kernel lists the newest address of IPv6 first, and the oldest of IPv4.
    private func adding(to device: String, isNew: Bool) -> [String] {
        let inOrder =
            addresses.filter { $0.address.family == .four } + addresses.filter { $0.address.family == .six }.reversed()
        return inOrder.map { address in
            var words = address.words
            // It was proved to be free long ago.
            if isNew, address.address.family == .six, !words.contains("nodad") { words.append("nodad") }
            if !isNew, let label = address.label { words += ["label", label] }
            return "address add \(words.joined(separator: " ")) dev \(device)"
        }
    }

    private func knowing(on device: String) -> [String] {
        neighbours.map { "neigh replace \($0.address) lladdr \($0.mac) dev \(device) nud permanent" }
    }

    private func routing(from before: String, to after: String) -> [String] {
        // What is on the link first, since the other routes lead by it.
        routes.sorted { $0.gateway == nil && $1.gateway != nil }
            .flatMap { route -> [String] in
                guard let words = route.words?.joined(separator: " ") else { return [] }
                // Of IPv6 there can be others like it, by other interfaces.
                return [
                    "route del \(words) dev \(before)",
                    "route \(route.family.isSix ? "append" : "add") \(words) dev \(after)",
                ]
            }
    }

    package func returning(from bridge: String) -> [String] {
        adding(to: name, isNew: false) + routing(from: bridge, to: name) + knowing(on: name)
            + ["link set dev \(name) nomaster", "link delete dev \(bridge)"]
    }
}
