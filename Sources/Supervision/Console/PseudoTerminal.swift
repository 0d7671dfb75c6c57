import CLinux
import Glibc
import System
import Values

/// QEMU's terminal, on which it draws the guest's screen.
final class PseudoTerminal {
    let channel: Channel
    private let raw: Int32
    private let name: String

    init(loop: EventLoop) throws(Failure) {
        var raw: Int32 = -1
        var buffer = [CChar](repeating: 0, count: 64)
        do throws(Errno) {
            try Errno.check { clinux_pseudo_terminal(&raw, &buffer, buffer.count) }
            channel = try Channel(Descriptor(raw), loop: loop)
        } catch {
            throw Failure(.host, "make", "a terminal for the machine's screen", error)
        }
        self.raw = raw
        name = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        clinux_set_window_size(raw, 25, 80)
    }

    func openOtherEnd() throws(Failure) -> Descriptor {
        try Failure.naming(.host, "open", name, try Descriptor.open(name, O_RDWR | O_NOCTTY))
    }

    /// A newcomer of the same size must see a whole screen too, and only a change makes QEMU draw it anew.
    func resize(rows: Int, columns: Int) {
        guard (1...1000).contains(rows), (1...1000).contains(columns) else { return }
        clinux_set_window_size(raw, UInt16(rows), UInt16(columns))
    }
}
