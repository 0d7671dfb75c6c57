import CLinux
import Glibc
import Values

/// Whether an address and port can be had, and who is there.
extension SocketAddress {
    /// nil when the port is free; else why it is not.
    package func whyTaken(udp: Bool = false) -> Errno? {
        let result = SocketAddress.withSystemAddress(host, port) { address, size, family -> Errno? in
            let kind = Int32(udp ? SOCK_DGRAM.rawValue : SOCK_STREAM.rawValue)
            let raw = socket(family, kind | Int32(SOCK_CLOEXEC.rawValue), 0)
            if raw < 0 { return Errno.last }
            let probe = Descriptor(raw)
            var yes: Int32 = 1
            // As QEMU does: a connection of yesterday in TIME_WAIT is no obstacle. With datagrams it would let two share.
            if !udp { setsockopt(probe.raw, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size)) }
            if bind(probe.raw, address, size) < 0 { return Errno.last }
            return !udp && listen(probe.raw, 1) < 0 ? Errno.last : nil
        }
        return result ?? Errno(code: EINVAL)
    }

    /// A port of 127.0.0.1 that nobody has at the moment.
    package static func freePort() -> Int? {
        withSystemAddress("127.0.0.1", 0) { address, size, family in
            let raw = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            if raw < 0 { return nil }
            let probe = Descriptor(raw)
            guard bind(probe.raw, address, size) == 0 else { return nil }
            var bound = sockaddr_in()
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let result = withUnsafeMutablePointer(to: &bound) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(probe.raw, $0, &length) }
            }
            return result == 0 ? Int(in_port_t(bigEndian: bound.sin_port)) : nil
        } ?? nil
    }

    /// Connects, and takes the first bytes that the other side says of itself; each in what is left of the time.
    package func greeting(within seconds: Double) throws(Errno) -> [UInt8] {
        let deadline = ContinuousClock.now + .milliseconds(Int(seconds * 1000))
        let result = SocketAddress.withSystemAddress(host, port) { address, size, family -> Result<[UInt8], Errno> in
            let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
            let raw = socket(family, kind, 0)
            if raw < 0 { return .failure(Errno.last) }
            let connection = Descriptor(raw)
            do throws(Errno) {
                if connect(connection.raw, address, size) < 0, Errno.last != Errno(code: EINPROGRESS) {
                    throw Errno.last
                }
                try SocketAddress.wait(for: connection.raw, POLLOUT, until: deadline)
                var error: Int32 = 0
                var length = socklen_t(MemoryLayout<Int32>.size)
                getsockopt(connection.raw, SOL_SOCKET, SO_ERROR, &error, &length)
                if error != 0 { throw Errno(code: error) }
                try SocketAddress.wait(for: connection.raw, POLLIN, until: deadline)
                return .success(try connection.read(atMost: 256))
            } catch {
                return .failure(error)
            }
        }
        guard let result else { throw Errno(code: EINVAL) }
        return try result.get()
    }

    private static func wait(
        for raw: Int32, _ events: Int32, until deadline: ContinuousClock.Instant
    ) throws(Errno) {
        var watched = pollfd(fd: raw, events: Int16(events), revents: 0)
        let left = (deadline - .now).components
        let milliseconds = left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000
        if try Errno.check({ poll(&watched, 1, Int32(clamping: max(0, milliseconds))) }) == 0 {
            throw Errno(code: ETIMEDOUT)
        }
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
