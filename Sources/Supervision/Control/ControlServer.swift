import Model
import System
import Values

/// What other snabbvm commands ask of a running launcher: one line of JSON each way. Only the launcher's user can connect.
final class ControlServer {
    private var listener: Listener?
    fileprivate var connections: [ObjectIdentifier: ControlConnection] = [:]
    var onRequest: (ControlRequest, ControlConnection) -> Void = { _, _ in }

    init(_ path: String, loop: EventLoop) throws(Failure) {
        listener = try Listener(path, loop: loop) { [unowned self] in
            guard let channel = try? Channel(Descriptor($0), loop: loop) else { return }
            let connection = ControlConnection(channel, self)
            connections[ObjectIdentifier(connection)] = connection
        }
    }

    func close() {
        listener?.close()
        for connection in connections.values { connection.close() }
    }
}

/// One caller: first a request, then, when it attaches to a stream, the stream's bytes both ways.
final class ControlConnection {
    private let channel: Channel
    private unowned let server: ControlServer
    private var unread: [UInt8] = []
    /// More than this is no request.
    private static let longest = 1 << 20
    private var stream: ConsoleStream?
    private var closesWhenSent = false

    fileprivate init(_ channel: Channel, _ server: ControlServer) {
        self.channel = channel
        self.server = server
        channel.onBytes = { [unowned self] in take($0) }
        channel.onEnd = { [unowned self] in close() }
        channel.outlet.onEmpty = { [unowned self] in if closesWhenSent { close() } }
    }

    /// What comes together with the request for a stream is the stream's already.
    private func take(_ bytes: [UInt8]) {
        unread += bytes
        while stream == nil, let end = unread.firstIndex(of: 0x0a) {
            let line = Array(unread[..<end])
            unread.removeFirst(end + 1)
            guard let request = try? JSON(parsing: line) else { return close() }
            do { server.onRequest(try request.decode(ControlRequest.self), self) } catch {
                let verb = (error as? ControlRequest.Unknown)?.verb ?? ""
                answer(ControlAnswer.Outcome(error: "'\(verb)' is nothing that can be asked"))
            }
        }
        if let stream, !unread.isEmpty {
            let typed = unread
            unread = []
            stream.typed(typed, by: channel)
        }
        if unread.count > ControlConnection.longest { close() }
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
        channel.outlet.send(json.text + "\n")
    }

    fileprivate func close() {
        if server.connections.removeValue(forKey: ObjectIdentifier(self)) == nil { return }
        stream?.remove(channel.outlet)
        channel.close()
    }
}
