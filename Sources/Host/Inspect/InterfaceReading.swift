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
            var interface = HostFacts.Interface(name: name)
            interface.mac = tree.line("\(folder)/address").flatMap { MACAddress($0) }
            interface.mtu = tree.number("\(folder)/mtu") ?? interface.mtu
            interface.isUp = UInt32(flags.dropFirst(2), radix: 16).map { $0 & UInt32(IFF_UP) != 0 } ?? false
            interface.hasLink = tree.number("\(folder)/carrier").map { $0 == 1 }
            interface.uppers = uppers.map { String($0.dropFirst("upper_".count)) }
            interface.addresses = addresses[name] ?? []
            interface.hasDefaultRoute = withDefaultRoute.contains(name)
            interface.hasProgram = tree.root == "/" && clinux_xdp_attached(name) != 0
            return interface
        }
    }

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

    /// This network namespace's own, by the names of their interfaces.
    package static func systemAddresses() -> [String: [String]] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [:] }
        defer { freeifaddrs(list) }
        // Where the address's own bytes are in a sockaddr_in, and in a sockaddr_in6.
        let places = [AF_INET: 4..<8, AF_INET6: 8..<24]
        var result: [String: [String]] = [:]
        var next = list
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard let pointer = entry.ifa_addr, let place = places[Int32(pointer.pointee.sa_family)] else { continue }
            let bytes = UnsafeRawBufferPointer(start: pointer, count: place.upperBound)[place]
            guard let address = IPAddress(bytes: bytes), !(address.isSix && address.isLinkLocal) else { continue }
            // An address can have a label of its own: eth1:vip.
            let name = String(cString: entry.ifa_name).prefix { $0 != ":" }
            result[String(name), default: []].append(address.description)
        }
        return result
    }
}
