import Model
import Values

extension HostFacts.Link {
    /// A bridge's port must let through the frames of other MAC addresses than its own.
    var whyNotBridged: String? {
        if !hasMAC { return "it has no MAC address" }
        if tap != nil { return "it is a tap" }
        switch kind {
        case "bridge": return "it is a bridge itself"
        case "ipvlan", "ipvtap", "macvlan", "macvtap":
            return "a \(kind ?? "") lets no frames of other MAC addresses through"
        default: return nil
        }
    }

    var hasMAC: Bool { mac?.bytes.contains { $0 != 0 } == true }
}
