import Glibc

/// Tells when a file has a new content: by the folders that it and its links are in, since editors and tools put a new
/// file in the place of the old one, and by itself, where it alone was mounted from elsewhere.
package final class FileWatch {
    private let events: Descriptor
    private let path: String
    private let loop: EventLoop
    private let onChange: () throws -> Void
    private var settling: EventLoop.Timer?
    private var content: [UInt8]?

    /// Several writes in a row are one change.
    private static let settlingTime = Duration.milliseconds(50)
    private static let most = 1 << 20

    package init?(_ path: String, loop: EventLoop, onChange: @escaping () throws -> Void) {
        let raw = inotify_init1(Int32(O_CLOEXEC | O_NONBLOCK))
        guard raw >= 0 else { return nil }
        events = Descriptor(raw)
        self.path = path
        self.loop = loop
        self.onChange = onChange
        content = try? Files.read(path, limit: FileWatch.most)
        guard watchAll() else { return nil }
        loop.watch(raw, for: .readable) { [unowned self] _ in read() }
    }

    deinit { loop.unwatch(events.raw) }

    /// Again after each change, since links may lead elsewhere by then.
    private func watchAll() -> Bool {
        let resolved = (try? Files.resolved(path)) ?? path
        let folders = [path, resolved].map { Files.folder(of: $0) }
        let wanted = UInt32(IN_CLOSE_WRITE) | UInt32(IN_MOVED_TO) | UInt32(IN_CREATE) | UInt32(IN_DELETE_SELF)
        let watched = (Set(folders).map { $0.isEmpty ? "/" : $0 } + [resolved]).map {
            inotify_add_watch(events.raw, $0, wanted)
        }
        return watched.contains { $0 >= 0 }
    }

    private func read() {
        while let bytes = try? events.read(atMost: 65536), !bytes.isEmpty {}
        loop.cancel(settling)
        settling = loop.after(FileWatch.settlingTime) { [weak self] in try self?.look() }
    }

    private func look() throws {
        _ = watchAll()
        let now = try? Files.read(path, limit: FileWatch.most)
        if now == nil || now == content { return }
        content = now
        try onChange()
    }
}
