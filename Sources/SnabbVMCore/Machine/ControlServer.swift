import CLinux
import Glibc

/// What other snabbvm commands ask of a running launcher: one line of JSON each way. Only the launcher's user can connect.
final class ControlServer {
    private let listener: Descriptor
    private let loop: EventLoop
    private var connections: [Int32: ControlConnection] = [:]
    var onRequest: (_ verb: String, _ request: JSON, ControlConnection) -> Void = { _, _, _ in }

    init(_ path: String, loop: EventLoop) throws(Failure) {
        self.loop = loop
        unlink(path)
        do throws(Errno) {
            listener = Descriptor(try Errno.check { clinux_listen(path) })
            try listener.setNonBlocking()
        } catch {
            throw Failure(.host, "listen on", path, error)
        }
        loop.watch(listener.raw, for: .readable) { [weak self] _ in self?.accept() }
    }

    private func accept() {
        let raw = Glibc.accept(listener.raw, nil, nil)
        guard raw >= 0 else { return }
        _ = fcntl(raw, F_SETFD, FD_CLOEXEC)
        let connection = ControlConnection(raw, loop: loop)
        connections[raw] = connection
        connection.onRequest = { [unowned self, unowned connection] request in
            onRequest(request["verb"]?.string ?? "", request, connection)
        }
        connection.onClose = { [unowned self] in connections[raw] = nil }
    }

    func close() {
        loop.unwatch(listener.raw)
        for connection in connections.values { connection.close() }
    }
}

/// One caller: first a request, then, when it attaches to a stream, the stream's bytes both ways.
final class ControlConnection {
    private let socket: Descriptor
    private let loop: EventLoop
    private var buffer = LineBuffer()
    private(set) var outlet: Outlet!
    private var stream: ConsoleStream?
    private var closesWhenSent = false
    private var isClosed = false
    fileprivate var onRequest: (JSON) -> Void = { _ in }
    fileprivate var onClose: () -> Void = {}

    fileprivate init(_ raw: Int32, loop: EventLoop) {
        socket = Descriptor(raw)
        self.loop = loop
        try? socket.setNonBlocking()
        outlet = Outlet(raw, loop: loop) { [unowned self] in loop.after(.zero) { [weak self] in self?.close() } }
        outlet.onWaiting = { [unowned self] waits in
            loop.change(raw, to: waits ? [.readable, .writable] : .readable)
            if !waits, closesWhenSent { close() }
        }
        loop.watch(raw, for: .readable) { [unowned self] in handle($0) }
    }

    private func handle(_ events: EventLoop.Events) {
        if events.contains(.writable) { outlet.flush() }
        guard !isClosed, !events.isDisjoint(with: [.readable, .hangup]) else { return }
        do throws(Errno) {
            let bytes = try socket.read(atMost: 65536)
            if bytes.isEmpty { return close() }
            take(bytes)
        } catch {
            if error != .wouldBlock { close() }
        }
    }

    private func take(_ bytes: [UInt8]) {
        if let stream { return stream.onInput(bytes) }
        for line in buffer.lines(adding: bytes) {
            guard let request = try? JSON(parsing: line) else { return close() }
            onRequest(request)
        }
    }

    /// From here on the connection is the stream.
    func attach(to stream: ConsoleStream) {
        self.stream = stream
        stream.add(outlet)
    }

    /// The answer, and the end of the conversation.
    func answer(_ json: JSON) {
        closesWhenSent = true
        outlet.send(json.text + "\n")
    }

    fileprivate func close() {
        if isClosed { return }
        isClosed = true
        stream?.remove(outlet)
        loop.unwatch(socket.raw)
        onClose()
    }
}
