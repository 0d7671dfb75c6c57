import Values

/// How one NIC of the machine reaches the world.
package enum NetworkMode: Equatable, Sendable {
    /// Beside the container's interface in a bridge, which is made, or is there already by this name.
    case bridge(String?)
    /// The container's own address is the machine's.
    case takeover
    /// A private address behind the container's.
    case nat
    /// QEMU itself, or passt, plays the network: no rights are needed.
    case user
    case tap(String)
    case macvtap(String)
    case none
}

extension NetworkMode: TextCodable {
    package init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let name = parts.count > 1 ? parts[1] : nil
        switch (parts[0], name) {
        case ("bridge", let name) where name?.isEmpty != true: self = .bridge(name)
        case ("takeover", nil): self = .takeover
        case ("nat", nil): self = .nat
        case ("user", nil): self = .user
        case ("none", nil): self = .none
        case ("tap", let name?) where !name.isEmpty: self = .tap(name)
        case ("macvtap", let name?) where !name.isEmpty: self = .macvtap(name)
        default: return nil
        }
    }

    package var description: String {
        switch self {
        case .bridge(let name): "bridge" + (name.map { ":\($0)" } ?? "")
        case .takeover: "takeover"
        case .nat: "nat"
        case .user: "user"
        case .tap(let name): "tap:\(name)"
        case .macvtap(let name): "macvtap:\(name)"
        case .none: "none"
        }
    }

    package static let placeholder = "bridge|takeover|nat|user|tap:NAME|bridge:NAME|macvtap:NAME|none"

    /// Takes what belongs to an interface of the container.
    package var usesInterface: Bool { [.bridge(nil), .takeover, .nat].contains(self) }

    /// What exists already and is somebody else's to set up.
    package var isJoined: Bool {
        switch self {
        case .bridge(.some), .tap, .macvtap: true
        default: false
        }
    }
}

/// An address of the machine's, with the gateway that it reaches other networks by.
package struct GuestAddress: Codable, Equatable, Sendable {
    package var address: NetworkAddress
    package var gateway: IPAddress?

    package init(address: NetworkAddress, gateway: IPAddress? = nil) {
        self.address = address
        self.gateway = gateway
    }
}

/// Who gives the machine its address.
package enum AddressRequest: Equatable, Sendable {
    case auto, dhcp, none
    case fixed([GuestAddress])

    /// `auto`, `dhcp`, `none`, `10.0.0.5/24`, `10.0.0.5/24,10.0.0.1`.
    package init?(_ text: String) {
        switch text {
        case "auto": self = .auto
        case "dhcp": self = .dhcp
        case "none": self = .none
        default:
            let parts = text.split(separator: ",", omittingEmptySubsequences: false)
            guard parts.count <= 2, let address = NetworkAddress(parts[0]) else { return nil }
            var fixed = GuestAddress(address: address)
            if parts.count == 2 {
                guard let gateway = IPAddress(parts[1]), gateway.family == address.family else { return nil }
                fixed.gateway = gateway
            }
            self = .fixed([fixed])
        }
    }

    /// One address of each kind can be given; nil where this one does not go together with those before it.
    package func joined(with earlier: AddressRequest?) -> AddressRequest? {
        guard let earlier else { return self }
        guard case .fixed(let own) = self, case .fixed(let others) = earlier,
            own.count + others.count == Set((own + others).map(\.address.family)).count
        else { return nil }
        return .fixed(others + own)
    }
}

/// One further NIC of the machine: `eth1=bridge`, `lan=tap:tap5,mac=…`.
package struct GuestNICRequest: Equatable, Sendable {
    /// The container's interface; or, where the mode names what it joins, only a name.
    package var interface: String
    package var mode: NetworkMode
    package var address: AddressRequest?
    package var mac: MACAddress?

    package init(interface: String, mode: NetworkMode) {
        self.interface = interface
        self.mode = mode
    }

    package init?(_ text: String) {
        let words = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        let pair = { (word: String) in
            word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        }
        let first = pair(words[0])
        guard first.count == 2, !first[0].isEmpty, let mode = NetworkMode(first[1]), mode != .user, mode != .none else {
            return nil
        }
        self.init(interface: first[0], mode: mode)
        for word in words.dropFirst() {
            let setting = pair(word)
            guard setting.count == 2 else { return nil }
            switch setting[0] {
            case "address":
                guard let all = AddressRequest(setting[1])?.joined(with: address) else { return nil }
                address = all
            case "gateway":
                guard case .fixed(var addresses) = address, let gateway = IPAddress(setting[1]),
                    let last = addresses.indices.last, addresses[last].address.family == gateway.family
                else { return nil }
                addresses[last].gateway = gateway
                address = .fixed(addresses)
            case "mac":
                guard let unicast = MACAddress(unicast: setting[1]) else { return nil }
                mac = unicast
            default: return nil
            }
        }
    }

    package static let placeholder = "IFACE=MODE[,address=…][,gateway=…][,mac=…]"
}
