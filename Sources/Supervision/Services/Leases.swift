import Model
import System
import Values

/// Each NIC's addresses that it asked for and was given.
enum Leases {
    static func of(_ folders: MachinePaths) -> [MACAddress: [IPAddress]] {
        parse(FileTree().text(folders.leases) ?? "")
    }

    /// By MAC address; those of IPv6 stand below a line of their own.
    static func parse(_ text: String) -> [MACAddress: [IPAddress]] {
        var result: [MACAddress: [IPAddress]] = [:]
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ").map(String.init)
            guard fields.count >= 4, let address = IPAddress(fields[2]), let mac = MACAddress(fields[1]) else {
                continue
            }
            result[mac, default: []].append(address)
        }
        return result
    }
}
