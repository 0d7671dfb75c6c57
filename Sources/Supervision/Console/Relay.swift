import CLinux
import Glibc
import Model
import System
import Values

/// Connects this terminal to one stream of a machine: what each tmux window runs, and `snabbvm console serial`.
package enum Relay {
    /// `escape` is control-], as telnet has it; there is none inside tmux, where every key is the guest's.
    package static func run(_ stream: String, of client: ControlClient, escape: UInt8?) throws {
        let name = client.folders.name
        let streams = try client.ask(.streams).decode(ControlAnswer.Streams.self).streams
        guard streams.contains(stream) else {
            throw Failure(
                .usage, "show", "'\(stream)'", "machine \(name) has no such stream",
                remedy: "there is \(streams.joined(separator: ", "))")
        }
        let socket = try client.connect()
        let loop = try EventLoop(alsoHandling: [SIGWINCH])
        let request = ControlRequest.attach(stream: stream).line
        try Failure.naming(.noMachine, "talk to machine", name, try socket.writeAll(request))
        let output = HeldDescriptor(Descriptor(try Errno.check { fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0) }))
        let settings = makeRaw()
        defer { if var settings { tcsetattr(STDIN_FILENO, TCSANOW, &settings) } }
        let greeting = escape == nil || settings == nil ? "" : "[\(stream) of \(name); C-] leaves]\r\n"
        try? output.writeAll(Array(greeting.utf8))

        var ended = false
        // The guest's screen is drawn for the window's size; a serial line has none.
        let tellSize = {
            var (rows, columns): (UInt16, UInt16) = (0, 0)
            guard stream == StreamName.screen.rawValue, clinux_window_size(STDIN_FILENO, &rows, &columns) == 0, rows > 0
            else { return }
            _ = try? client.ask(.resize(rows: Int(rows), columns: Int(columns)))
        }
        loop.onSignal = { signal in
            if signal == SIGWINCH { tellSize() } else { ended = true }
        }
        let channel = try Channel(socket, loop: loop)
        channel.onBytes = { try? output.writeAll($0) }
        channel.onEnd = { ended = true }
        loop.watch(STDIN_FILENO, for: .readable) { _ in
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = read(STDIN_FILENO, &buffer, buffer.count)
            if count <= 0 { return loop.unwatch(STDIN_FILENO) }
            if let escape, buffer[..<count].contains(escape) {
                ended = true
                return
            }
            channel.outlet.send(Array(buffer[..<count]))
            // What is pasted waits in the terminal until the machine takes it.
            if channel.outlet.isWaiting { loop.change(STDIN_FILENO, to: []) }
        }
        channel.outlet.onEmpty = { loop.change(STDIN_FILENO, to: .readable) }
        tellSize()
        ResidentMemory.release()
        try withExtendedLifetime(channel) { try loop.run { ended } }
    }

    /// From here on every key is the guest's. Returns the terminal's settings before; nil where there is no terminal.
    private static func makeRaw() -> termios? {
        var settings = termios()
        guard tcgetattr(STDIN_FILENO, &settings) == 0 else { return nil }
        let before = settings
        cfmakeraw(&settings)
        tcsetattr(STDIN_FILENO, TCSANOW, &settings)
        return before
    }
}
