import Glibc
import System
import Values

/// What is read as soon as the other side has something to say, and written as it takes it.
final class Channel {
    private let reading: Descriptor
    private let writing: Descriptor
    private let loop: EventLoop
    private(set) var outlet: Outlet!
    var onBytes: ([UInt8]) -> Void = { _ in }
    /// Nothing comes any more, or the other side takes nothing.
    var onEnd: () -> Void = {}
    /// Nothing more is to be read for now; that the other side is gone is seen all the same.
    var isPaused = false {
        didSet { loop.change(reading.raw, to: isPaused ? [] : .readable) }
    }

    init(_ reading: consuming Descriptor, _ writing: consuming Descriptor, loop: EventLoop) {
        self.reading = reading
        self.writing = writing
        self.loop = loop
        outlet = Outlet(self.writing.raw, loop: loop) { [weak self] in
            loop.after(.zero) { [weak self] in self?.onEnd() }
        }
        // Weakly: a start that fails later leaves the loop to who cleans up.
        loop.watch(self.reading.raw, for: .readable) { [weak self] _ in self?.read() }
    }

    /// Both ways by one descriptor, such as a socket.
    convenience init(_ descriptor: consuming Descriptor, loop: EventLoop) throws(Errno) {
        try descriptor.setNonBlocking()
        let copy = Descriptor(try Errno.check { fcntl(descriptor.raw, F_DUPFD_CLOEXEC, 0) })
        self.init(descriptor, copy, loop: loop)
    }

    /// Takes what is there, such as QEMU's last words.
    func read() {
        do throws(Errno) {
            guard let bytes = try reading.readPresent(atMost: 65536) else { return }
            if !bytes.isEmpty { return onBytes(bytes) }
        } catch {}
        loop.unwatch(reading.raw)
        onEnd()
    }

    func close() {
        loop.unwatch(reading.raw)
        outlet.close()
    }
}
