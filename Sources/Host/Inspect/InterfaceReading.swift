import CLinux
import Glibc
import Model
import System
import Values

extension HostFacts.Interface {
    static func all(_ tree: FileTree) -> [HostFacts.Interface] {
        let withDefaultRoute = defaultRoutes(tree)
        let addresses = tree.root == "/" ? systemAddresses() : [:]
        return tree.names("/sys/class/net").compactMap { name in
            let folder = "/sys/class/net/\(name)"
            guard let flags = tree.line("\(folder)/flags") else { return nil }
            let uppers = tree.names(folder).filter { $0.hasPrefix("upper_") }
            return HostFacts.Interface(
                name: name, mac: tree.line("\(folder)/address").flatMap { MACAddress($0) },
                mtu: tree.number("\(folder)/mtu") ?? 1500,
                isUp: UInt32(flags.dropFirst(2), radix: 16).map { $0 & up != 0 } ?? false,
                hasLink: tree.number("\(folder)/carrier").map { $0 == 1 },
                uppers: uppers.map { String($0.dropFirst("upper_".count)) }, addresses: addresses[name] ?? [],
                hasDefaultRoute: withDefaultRoute.contains(name),
                hasProgram: tree.root == "/" && clinux_xdp_attached(name) != 0)
        }
    }

    private static let up: UInt32 = 1  // IFF_UP

    private static func defaultRoutes(_ tree: FileTree) -> Set<String> {
        var names: Set<String> = []
        for line in tree.lines("/proc/self/net/route").dropFirst() {
            let fields = line.split { $0 == "\t" || $0 == " " }
            if fields.count > 7, UInt32(fields[1], radix: 16) == 0, UInt32(fields[7], radix: 16) == 0 {
                names.insert(String(fields[0]))
            }
        }
        for line in tree.lines("/proc/self/net/ipv6_route") {
            let fields = line.split(separator: " ")
            // The loopback's entry says where there is no route.
            guard let name = fields.last, fields.count > 9, name != "lo" else { continue }
            if fields[0].allSatisfy({ $0 == "0" }), fields[1] == "00" { names.insert(String(name)) }
        }
        return names
    }

    private static func systemAddresses() -> [String: [String]] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [:] }
        defer { freeifaddrs(list) }
        let sizes = [AF_INET: MemoryLayout<sockaddr_in>.size, AF_INET6: MemoryLayout<sockaddr_in6>.size]
        var result: [String: [String]] = [:]
        var next = list
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard let address = entry.ifa_addr, let size = sizes[Int32(address.pointee.sa_family)] else { continue }
            var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            getnameinfo(address, socklen_t(size), &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST)
            let text = String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if text.hasPrefix("fe80:") { continue }
            // An address can have a label of its own: eth1:vip.
            let name = String(cString: entry.ifa_name).prefix { $0 != ":" }
            result[String(name), default: []].append(text)
        }
        return result
    }
}
