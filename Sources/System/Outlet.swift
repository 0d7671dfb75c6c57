import CLinux
import Glibc

/// A descriptor that others read from at their own speed: what they don't take yet waits here, within bounds.
package final class Outlet {
    private let descriptor: Int32
    private let loop: EventLoop
    private let onEnd: () -> Void
    /// Who does not read for this long is given up; the guest's console must not wait for anybody.
    private let most: Int
    private var waiting: [UInt8] = []
    private(set) var isOpen = true

    /// A pipe that poll calls writable takes this much without blocking.
    private static let piece = 4096

    /// `onEnd` is told when the reader is gone, or too slow.
    package init(_ descriptor: Int32, loop: EventLoop, most: Int = 1 << 20, onEnd: @escaping () -> Void) {
        self.descriptor = descriptor
        self.loop = loop
        self.most = most
        self.onEnd = onEnd
    }

    package func send(_ bytes: [UInt8]) {
        guard isOpen, !bytes.isEmpty else { return }
        waiting += bytes
        if waiting.count > most { return end() }
        flush()
    }

    package func send(_ text: String) { send(Array(text.utf8)) }

    /// Writes what the reader takes now; called again when it takes more.
    package func flush() {
        while isOpen, !waiting.isEmpty {
            var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            guard poll(&ready, 1, 0) > 0 else { break }
            let part = waiting.prefix(Outlet.piece)
            let count = part.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if Errno.last == .wouldBlock || Errno.last == .interrupted { break }
                return end()
            }
            waiting.removeFirst(count)
        }
        if isOpen { tellWaiting() }
    }

    package var isWaiting: Bool { !waiting.isEmpty }

    /// All was taken.
    package var onEmpty: () -> Void = {}

    private func tellWaiting() {
        if isWaiting { return loop.watch(descriptor, for: .writable) { [weak self] _ in self?.flush() } }
        loop.unwatch(descriptor)
        onEmpty()
    }

    /// From here on what is sent goes nowhere.
    package func close() {
        isOpen = false
        waiting = []
        loop.unwatch(descriptor)
    }

    private func end() {
        close()
        onEnd()
    }
}

/// Puts bytes together to lines.
package struct LineBuffer {
    private var rest: [UInt8] = []
    /// A line beyond this is nobody's sensible message.
    private let longest = 8 << 20

    package init() {}

    package mutating func lines(adding bytes: [UInt8]) -> [[UInt8]] {
        rest += bytes
        if rest.count > longest { rest = [] }
        guard let end = rest.lastIndex(of: 0x0a) else { return [] }
        let lines = rest[..<end].split(separator: 0x0a).map(Array.init)
        rest.removeFirst(end + 1)
        return lines
    }
}
