import CLinux
import Glibc

/// Connects this terminal to one stream of a machine: what each tmux window runs, and `snabbvm console serial`.
struct Relay {
    let client: ControlClient
    let stream: String
    /// Control-], as telnet has it; none inside tmux, where every key is the guest's.
    let escape: UInt8?

    func run() throws {
        let streams = (try client.ask(["verb": "streams"])["streams"]?.array ?? []).compactMap(\.string)
        guard streams.contains(stream) else {
            throw Failure(
                .usage, "show", "'\(stream)'", "machine \(client.folders.name) has no such stream",
                remedy: "there is \(streams.joined(separator: ", "))")
        }
        let socket = try client.connect()
        let loop = try EventLoop(alsoHandling: [SIGWINCH])
        let hello: JSON = ["verb": "attach", "stream": .string(stream)]
        do throws(Errno) { try socket.writeAll(Array("\(hello.text)\n".utf8)) } catch {
            throw Failure(.noMachine, "talk to machine", client.folders.name, error)
        }
        let terminal = RawTerminal(STDIN_FILENO)
        defer { terminal?.restore() }
        if escape != nil, terminal != nil { show("[\(stream) of \(client.folders.name); C-] leaves]\r\n") }

        var ended = false
        loop.onSignal = { signal in
            if signal == SIGWINCH { tellSize() } else { ended = true }
        }
        let raw = socket.raw
        loop.watch(raw, for: .readable) { _ in
            var buffer = [UInt8](repeating: 0, count: 65536)
            let count = read(raw, &buffer, buffer.count)
            if count <= 0 { ended = true } else { show(buffer[..<count]) }
        }
        loop.watch(STDIN_FILENO, for: .readable) { _ in
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = read(STDIN_FILENO, &buffer, buffer.count)
            if count <= 0 { return loop.unwatch(STDIN_FILENO) }
            if let escape, buffer[..<count].contains(escape) {
                ended = true
                return
            }
            _ = write(raw, buffer, count)
        }
        tellSize()
        ResidentMemory.releaseCode()
        try loop.run { ended }
        _ = consume socket
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
        _ = try? client.ask(["verb": "resize", "rows": .integer(Int64(rows)), "columns": .integer(Int64(columns))])
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
