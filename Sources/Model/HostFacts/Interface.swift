import Values

extension HostFacts {
    /// A Linux network interface, as far as taking it away would matter to somebody.
    package struct Interface: Codable, Equatable {
        package var name: String
        package var mac: MACAddress?
        package var mtu = 1500
        package var isUp: Bool
        /// nil while it is down.
        package var hasLink: Bool?
        /// Bridges, bonds, VLANs and the like that stand on it.
        package var uppers: [String]
        /// Without link-local ones.
        package var addresses: [String]
        package var hasDefaultRoute: Bool
        /// An XDP program is in its receive path.
        package var hasProgram = false

        package init(
            name: String, mac: MACAddress? = nil, mtu: Int = 1500, isUp: Bool, hasLink: Bool? = nil, uppers: [String],
            addresses: [String], hasDefaultRoute: Bool, hasProgram: Bool = false
        ) {
            self.name = name
            self.mac = mac
            self.mtu = mtu
            self.isUp = isUp
            self.hasLink = hasLink
            self.uppers = uppers
            self.addresses = addresses
            self.hasDefaultRoute = hasDefaultRoute
            self.hasProgram = hasProgram
        }
    }
}
