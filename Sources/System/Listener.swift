import CLinux
import Glibc
import Values

/// A socket at a path, in the place of what was there, and what is done with who connects: the descriptor is then theirs.
package final class Listener {
    private let socket: Descriptor
    private let loop: EventLoop

    package init(_ path: String, loop: EventLoop, onCaller: @escaping (Int32) -> Void) throws(Failure) {
        self.loop = loop
        unlink(path)
        socket = try Failure.naming(.host, "listen on", path, Descriptor(try Errno.check { clinux_listen(path) }))
        try Failure.naming(.host, "listen on", path, try socket.setNonBlocking())
        loop.watch(socket.raw, for: .readable) { [weak self] _ in
            guard let raw = self.map({ accept($0.socket.raw, nil, nil) }), raw >= 0 else { return }
            _ = fcntl(raw, F_SETFD, FD_CLOEXEC)
            onCaller(raw)
        }
    }

    package func close() { loop.unwatch(socket.raw) }
}
