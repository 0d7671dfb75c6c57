import CLinux
import Glibc

/// Addresses and ports as text, and whether one can be had.
extension SocketAddress {
    static func port(_ text: some StringProtocol) -> Int? {
        guard let port = Int(text), (1...65535).contains(port) else { return nil }
        return port
    }

    static func isNumeric(host: String) -> Bool { withSystemAddress(host, 0) { _, _, _ in true } ?? false }

    /// nil when the port is free; else why it is not.
    func whyTaken(udp: Bool = false) -> Errno? {
        let result = SocketAddress.withSystemAddress(host, port) { address, size, family -> Errno? in
            let kind = Int32(udp ? SOCK_DGRAM.rawValue : SOCK_STREAM.rawValue)
            let raw = socket(family, kind | Int32(SOCK_CLOEXEC.rawValue), 0)
            if raw < 0 { return Errno.last }
            let probe = Descriptor(raw)
            var yes: Int32 = 1
            // As QEMU does: a connection of yesterday in TIME_WAIT is no obstacle.
            setsockopt(probe.raw, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
            if bind(probe.raw, address, size) < 0 { return Errno.last }
            return !udp && listen(probe.raw, 1) < 0 ? Errno.last : nil
        }
        return result ?? Errno(code: EINVAL)
    }

    private static func withSystemAddress<Result>(
        _ host: String, _ port: Int, _ use: (UnsafePointer<sockaddr>, socklen_t, Int32) -> Result
    ) -> Result? {
        var four = sockaddr_in()
        if inet_pton(AF_INET, host, &four.sin_addr) == 1 {
            four.sin_family = sa_family_t(AF_INET)
            four.sin_port = in_port_t(port).bigEndian
            return withUnsafePointer(to: &four) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    use($0, socklen_t(MemoryLayout<sockaddr_in>.size), AF_INET)
                }
            }
        }
        var six = sockaddr_in6()
        guard inet_pton(AF_INET6, host, &six.sin6_addr) == 1 else { return nil }
        six.sin6_family = sa_family_t(AF_INET6)
        six.sin6_port = in_port_t(port).bigEndian
        return withUnsafePointer(to: &six) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                use($0, socklen_t(MemoryLayout<sockaddr_in6>.size), AF_INET6)
            }
        }
    }
}
