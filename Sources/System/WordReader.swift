import Values

/// Reads a program's words, a line at a time, as long as it lives.
package final class WordReader {
    private let descriptor: Descriptor
    private let loop: EventLoop
    private let onLine: (String) throws -> Void
    private var buffer = LineBuffer()
    /// Everybody who could say something is gone.
    package private(set) var hasEnded = false
    package var onEnd: () throws -> Void = {}

    package init(_ raw: Int32, loop: EventLoop, onLine: @escaping (String) throws -> Void) {
        descriptor = Descriptor(raw)
        self.loop = loop
        self.onLine = onLine
        try? descriptor.setNonBlocking()
        loop.watch(raw, for: .readable) { [self] _ in
            try read()
            if hasEnded { try onEnd() }
        }
    }

    private func read() throws {
        guard let bytes = try? descriptor.read(atMost: 65536) else { return }
        if bytes.isEmpty {
            hasEnded = true
            return loop.unwatch(descriptor.raw)
        }
        for line in buffer.lines(adding: bytes) { try onLine(String(decoding: line, as: UTF8.self).trimmed) }
    }

    /// The program is gone: what it said last is still in the pipe.
    package func finish() throws {
        try read()
        for line in buffer.lines(adding: [0x0a]) { try onLine(String(decoding: line, as: UTF8.self).trimmed) }
        loop.unwatch(descriptor.raw)
    }
}
