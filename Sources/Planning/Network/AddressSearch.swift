import Model
import Values

/// Which addresses are to be looked at before the plan, and where: pure; `AddressGuard` looks.
package struct AddressSearch: Equatable {
    package var place: AddressPlace
    /// Whose it is to be.
    package var mac: MACAddress
    /// The first that nobody has is taken; or, where one is asked for, whoever has it is told.
    package var candidates: [IPAddress]
    package var isChoice: Bool
    /// The interface is the way out, and not one of the machine's own side.
    package var isOutside: Bool

    /// As many as are tried before it is said that none is free.
    private static let most = 64

    /// The network of each family in which a machine beside the interface can have an address.
    static func networks(of link: HostFacts.Link) -> [NetworkAddress] {
        let own = link.ownAddresses.map(\.address)
        return [IPAddress.Family.four, .six].compactMap { family in
            own.first { $0.family == family && family.bits - $0.prefix >= 2 }
        }
    }

    package static func all(_ requests: [GuestNICRequest], _ facts: HostFacts, uuid: String) -> [AddressSearch] {
        guard let network = facts.network else { return [] }
        return requests.enumerated().flatMap { index, request -> [AddressSearch] in
            let name: String
            switch request.mode {
            case .bridge(nil): name = request.interface
            case .bridge(let given?): name = given
            default: return []
            }
            let mac = request.mac ?? MachineIdentity.macAddress(uuid, "eth\(index)")
            guard let link = network.link(name), link.isUp, link.hasMAC else { return [] }
            let isChoice: Bool
            let searched: [(family: IPAddress.Family, candidates: [IPAddress])]
            switch request.address ?? (request.mode.isJoined ? .dhcp : .auto) {
            case .auto:
                isChoice = true
                let gateways = Set(network.routes.compactMap(\.gateway) + network.nameservers)
                let own = Set(link.addresses.map(\.address.address))
                searched = networks(of: link).map { network in
                    let free = network.hostsFromTheEnd.lazy.filter { !own.contains($0) && !gateways.contains($0) }
                    return (network.family, Array(free.prefix(most)))
                }
            case .fixed(let addresses):
                isChoice = false
                searched = addresses.map { ($0.address.family, [$0.address.address]) }
            case .dhcp, .none: return []
            }
            return searched.map { family, candidates in
                AddressSearch(
                    place: AddressPlace(interface: name, family: family), mac: mac, candidates: candidates,
                    isChoice: isChoice, isOutside: request.mode == .bridge(nil))
            }
        }
    }
}

/// Where an address is looked for.
package struct AddressPlace: Hashable {
    package var interface: String
    var family: IPAddress.Family
}
