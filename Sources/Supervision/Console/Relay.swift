import CLinux
import Glibc
import Model
import System
import Values

/// Connects this terminal to one stream of a machine: what each tmux window runs, and `snabbvm console serial`.
package struct Relay {
    package let client: ControlClient
    package let stream: String
    /// Control-], as telnet has it; none inside tmux, where every key is the guest's.
    package let escape: UInt8?

    package init(client: ControlClient, stream: String, escape: UInt8?) {
        self.client = client
        self.stream = stream
        self.escape = escape
    }

    package func run() throws {
        let streams = try client.ask(.streams).decode(ControlAnswer.Streams.self).streams
        guard streams.contains(stream) else {
            throw Failure(
                .usage, "show", "'\(stream)'", "machine \(client.folders.name) has no such stream",
                remedy: "there is \(streams.joined(separator: ", "))")
        }
        let socket = try client.connect()
        let loop = try EventLoop(alsoHandling: [SIGWINCH])
        do throws(Errno) { try socket.writeAll(ControlRequest.attach(stream: stream).line) } catch {
            throw Failure(.noMachine, "talk to machine", client.folders.name, error)
        }
        let terminal = RawTerminal(STDIN_FILENO)
        defer { terminal?.restore() }
        if escape != nil, terminal != nil { show("[\(stream) of \(client.folders.name); C-] leaves]\r\n") }

        var ended = false
        loop.onSignal = { signal in
            if signal == SIGWINCH { tellSize() } else { ended = true }
        }
        let channel = try Channel(socket, loop: loop)
        channel.onBytes = { show($0[...]) }
        channel.onEnd = { ended = true }
        loop.watch(STDIN_FILENO, for: .readable) { _ in
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = read(STDIN_FILENO, &buffer, buffer.count)
            if count <= 0 { return loop.unwatch(STDIN_FILENO) }
            if let escape, buffer[..<count].contains(escape) {
                ended = true
                return
            }
            channel.send(Array(buffer[..<count]))
        }
        tellSize()
        ResidentMemory.releaseCode()
        try withExtendedLifetime(channel) { try loop.run { ended } }
    }

    private func show(_ text: String) { show(Array(text.utf8)[...]) }

    private func show(_ bytes: ArraySlice<UInt8>) {
        var rest = bytes
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count <= 0 { return }
            rest = rest.dropFirst(count)
        }
    }

    /// The guest's screen is drawn for the window's size; a serial line has none.
    private func tellSize() {
        var (rows, columns): (UInt16, UInt16) = (0, 0)
        guard stream == StreamName.screen.rawValue, clinux_window_size(STDIN_FILENO, &rows, &columns) == 0, rows > 0
        else { return }
        _ = try? client.ask(.resize(rows: Int(rows), columns: Int(columns)))
    }
}

/// The terminal while every key goes to the guest.
private struct RawTerminal {
    private let descriptor: Int32
    private let before: termios

    init?(_ descriptor: Int32) {
        var settings = termios()
        guard tcgetattr(descriptor, &settings) == 0 else { return nil }
        self.descriptor = descriptor
        before = settings
        cfmakeraw(&settings)
        tcsetattr(descriptor, TCSANOW, &settings)
    }

    func restore() {
        var settings = before
        tcsetattr(descriptor, TCSANOW, &settings)
    }
}
