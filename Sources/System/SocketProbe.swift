import CLinux
import Glibc
import Values

/// Whether an address and port can be had, and who is there.
extension SocketAddress {
    /// nil when the port is free; else why it is not.
    package func whyTaken(udp: Bool = false) -> Errno? {
        do throws(Errno) {
            _ = try socket(udp ? SOCK_DGRAM : SOCK_STREAM) { probe, address, size in
                var yes: Int32 = 1
                // As QEMU does: a connection of yesterday in TIME_WAIT is no obstacle. With datagrams it would let two share.
                if !udp { setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size)) }
                let result = bind(probe, address, size)
                return result < 0 || udp ? result : listen(probe, 1)
            }
            return nil
        } catch {
            return error
        }
    }

    /// A port of 127.0.0.1 that nobody has at the moment.
    package static func freePort() -> Int? {
        guard let probe = try? SocketAddress(host: "127.0.0.1", port: 0).socket(SOCK_STREAM, bind) else { return nil }
        var bound = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &bound) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(probe.raw, $0, &length) }
        }
        return result == 0 ? Int(in_port_t(bigEndian: bound.sin_port)) : nil
    }

    /// Connects, and takes the first bytes that the other side says of itself; each in what is left of the time.
    package func greeting(within seconds: Double) throws(Errno) -> [UInt8] {
        let deadline = ContinuousClock.now + .milliseconds(Int(seconds * 1000))
        let connection = try socket(SOCK_STREAM, flags: SOCK_NONBLOCK) { connection, address, size in
            let result = connect(connection, address, size)
            return result < 0 && Errno.last.code == EINPROGRESS ? 0 : result
        }
        try SocketAddress.wait(for: connection.raw, POLLOUT, until: deadline)
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(connection.raw, SOL_SOCKET, SO_ERROR, &error, &length)
        if error != 0 { throw Errno(code: error) }
        try SocketAddress.wait(for: connection.raw, POLLIN, until: deadline)
        return try connection.read(atMost: 256)
    }

    private static func wait(
        for raw: Int32, _ events: Int32, until deadline: ContinuousClock.Instant
    ) throws(Errno) {
        var watched = pollfd(fd: raw, events: Int16(events), revents: 0)
        if try Errno.check({ poll(&watched, 1, deadline.untilThen) }) == 0 { throw Errno(code: ETIMEDOUT) }
    }

    /// A new socket with which `use` has bound or connected this address.
    private func socket(
        _ kind: __socket_type, flags: __socket_type = SOCK_CLOEXEC,
        _ use: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) throws(Errno) -> Descriptor {
        var hints = addrinfo()
        hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV
        hints.ai_socktype = Int32(kind.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        // Stricter than the C library, to which a lone number is an address too.
        guard IPAddress(host) != nil, getaddrinfo(host, "\(port)", &hints, &found) == 0, let found else {
            throw Errno(code: EINVAL)
        }
        defer { freeaddrinfo(found) }
        let options = kind.rawValue | flags.rawValue | SOCK_CLOEXEC.rawValue
        let socket = Descriptor(try Errno.check { Glibc.socket(found.pointee.ai_family, Int32(options), 0) })
        try Errno.check { use(socket.raw, found.pointee.ai_addr, found.pointee.ai_addrlen) }
        return socket
    }
}
