import Glibc

/// Tells once of each file when somebody writes to it, by whatever name.
package final class WriteWatch {
    private let events: Descriptor
    private let loop: EventLoop
    private let onWrite: (String) -> Void
    /// By the kernel's number of the watch.
    private var paths: [Int32: String] = [:]

    /// nil where there is nothing to watch, or it can't be.
    package init?(_ files: [String], loop: EventLoop, onWrite: @escaping (String) -> Void) {
        let raw = files.isEmpty ? -1 : inotify_init1(Int32(O_CLOEXEC | O_NONBLOCK))
        guard raw >= 0 else { return nil }
        events = Descriptor(raw)
        self.loop = loop
        self.onWrite = onWrite
        for file in files {
            let number = inotify_add_watch(raw, file, UInt32(IN_MODIFY))
            if number >= 0 { paths[number] = file }
        }
        loop.watch(raw, for: .readable) { [unowned self] _ in read() }
    }

    deinit { loop.unwatch(events.raw) }

    /// Each event begins with its watch's number, and has a fixed length, since it is of a file and not of a folder.
    private func read() {
        let size = MemoryLayout<inotify_event>.size
        while let bytes = try? events.read(atMost: 4096), bytes.count >= size {
            for place in stride(from: 0, through: bytes.count - size, by: size) {
                let number = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: place, as: Int32.self) }
                guard let path = paths.removeValue(forKey: number) else { continue }
                inotify_rm_watch(events.raw, number)
                onWrite(path)
            }
        }
    }
}
