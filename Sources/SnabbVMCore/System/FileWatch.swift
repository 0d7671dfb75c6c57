import Glibc

/// Tells when a file has a new content: by its folder, since editors and tools put a new file in the place of the old one.
final class FileWatch {
    private let events: Descriptor
    private let name: String
    private let loop: EventLoop
    private let onChange: () throws -> Void
    private var settling: EventLoop.Timer?

    /// Several writes in a row are one change.
    private static let settlingTime = Duration.milliseconds(50)

    init?(_ path: String, loop: EventLoop, onChange: @escaping () throws -> Void) {
        let resolved = (try? Files.resolved(path)) ?? path
        guard let slash = resolved.lastIndex(of: "/") else { return nil }
        name = String(resolved[resolved.index(after: slash)...])
        let folder = resolved[..<slash].isEmpty ? "/" : String(resolved[..<slash])
        let raw = inotify_init1(Int32(O_CLOEXEC | O_NONBLOCK))
        guard raw >= 0 else { return nil }
        events = Descriptor(raw)
        self.loop = loop
        self.onChange = onChange
        let wanted = UInt32(IN_CLOSE_WRITE) | UInt32(IN_MOVED_TO)
        guard inotify_add_watch(raw, folder, wanted) >= 0 else { return nil }
        loop.watch(raw, for: .readable) { [unowned self] _ in read() }
    }

    deinit { loop.unwatch(events.raw) }

    private func read() {
        guard let bytes = try? events.read(atMost: 65536), isAboutFile(bytes) else { return }
        loop.cancel(settling)
        settling = loop.after(FileWatch.settlingTime) { [weak self] in try self?.onChange() }
    }

    /// Each event: watch, mask, cookie, length of the name, and the name with zeros behind it.
    private func isAboutFile(_ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while rest.count >= 16 {
            let length = Int(rest.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 12, as: UInt32.self) })
            let named = rest.dropFirst(16).prefix(length).prefix { $0 != 0 }
            if String(decoding: named, as: UTF8.self) == name { return true }
            rest = rest.dropFirst(16 + length)
        }
        return false
    }
}
