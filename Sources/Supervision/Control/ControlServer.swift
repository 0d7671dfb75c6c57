import Glibc
import Model
import System
import Values

/// What other snabbvm commands ask of a running launcher: one line of JSON each way. Only the launcher's user can connect.
final class ControlServer {
    private let listener: Descriptor
    private let loop: EventLoop
    fileprivate var connections: [ObjectIdentifier: ControlConnection] = [:]
    var onRequest: (ControlRequest, ControlConnection) -> Void = { _, _ in }

    init(_ path: String, loop: EventLoop) throws(Failure) {
        self.loop = loop
        listener = try Descriptor.listening(at: path)
        loop.watch(listener.raw, for: .readable) { [weak self] _ in self?.accept() }
    }

    private func accept() {
        let raw = Glibc.accept(listener.raw, nil, nil)
        guard raw >= 0 else { return }
        _ = fcntl(raw, F_SETFD, FD_CLOEXEC)
        guard let channel = try? Channel(Descriptor(raw), loop: loop) else { return }
        let connection = ControlConnection(channel, self)
        connections[ObjectIdentifier(connection)] = connection
    }

    func close() {
        loop.unwatch(listener.raw)
        for connection in connections.values { connection.close() }
    }
}

/// One caller: first a request, then, when it attaches to a stream, the stream's bytes both ways.
final class ControlConnection {
    private let channel: Channel
    private unowned let server: ControlServer
    private var buffer = LineBuffer()
    private var stream: ConsoleStream?
    private var closesWhenSent = false

    fileprivate init(_ channel: Channel, _ server: ControlServer) {
        self.channel = channel
        self.server = server
        channel.onBytes = { [unowned self] in take($0) }
        channel.onEnd = { [unowned self] in close() }
        channel.outlet.onEmpty = { [unowned self] in if closesWhenSent { close() } }
    }

    private func take(_ bytes: [UInt8]) {
        if let stream { return stream.typed(bytes, by: channel) }
        for line in buffer.lines(adding: bytes) {
            guard let request = try? JSON(parsing: line) else { return close() }
            do { server.onRequest(try request.decode(ControlRequest.self), self) } catch {
                let verb = (error as? ControlRequest.Unknown)?.verb ?? ""
                answer(ControlAnswer.Outcome(error: "'\(verb)' is nothing that can be asked"))
            }
        }
    }

    /// From here on the connection is the stream.
    func attach(to stream: ConsoleStream) {
        self.stream = stream
        stream.add(channel.outlet)
    }

    /// The answer, and the end of the conversation.
    func answer(_ answer: some Encodable) {
        closesWhenSent = true
        let json = (try? JSON(encoding: answer)) ?? ["error": "the answer can't be written"]
        channel.send(json.text + "\n")
    }

    fileprivate func close() {
        if server.connections.removeValue(forKey: ObjectIdentifier(self)) == nil { return }
        stream?.remove(channel.outlet)
        channel.close()
    }
}
