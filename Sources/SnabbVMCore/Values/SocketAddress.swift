/// Where something listens: an address as text, which can be empty, and a port.
struct SocketAddress: Codable, Equatable, CustomStringConvertible {
    var host: String
    var port: Int
    var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    static func isNumeric(host: String) -> Bool { IPAddress(host) != nil }
}
