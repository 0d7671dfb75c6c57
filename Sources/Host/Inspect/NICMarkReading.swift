import Model
import System

extension NICMark {
    /// What this container or host calls itself.
    package static var thisHost: String { FileTree().line("/proc/sys/kernel/hostname") ?? "localhost" }

    /// Of a device, by its folder, if it bears one.
    init?(of folder: String, _ tree: FileTree = FileTree()) {
        guard let mark = tree.line("\(folder)/driver_override").flatMap(NICMark.init) else { return nil }
        self = mark
    }
}
