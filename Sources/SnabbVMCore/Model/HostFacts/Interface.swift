extension HostFacts {
    /// A Linux network interface, as far as taking it away would matter to somebody.
    struct Interface: Codable, Equatable {
        var name: String
        var mac: MACAddress?
        var mtu = 1500
        var isUp: Bool
        /// nil while it is down.
        var hasLink: Bool?
        /// Bridges, bonds, VLANs and the like that stand on it.
        var uppers: [String]
        /// Without link-local ones.
        var addresses: [String]
        var hasDefaultRoute: Bool
        /// An XDP program is in its receive path.
        var hasProgram = false
    }
}
