import CLinux
import Glibc

/// Mounting, and what it takes to know a mount of ours.
enum Mounts {
    /// The name of the device that our mounts have, so that those of others are left alone.
    private static let ours = "snabbvm"

    static func makeWritable(_ path: String) throws(Failure) {
        // The mount alone, if it is what can't be written to; else the file system, which others may have mounted too.
        if clinux_remount(path, 1, 1) == 0, access(path, W_OK) == 0 { return }
        do throws(Errno) { try Errno.check { clinux_remount(path, 1, 0) } } catch {
            throw Failure(
                .host, "mount anew, to write to it,", path, error,
                remedy: "in a container: docker run --privileged, or -v /sys:/sys")
        }
    }

    static func makeReadOnly(_ path: String) {
        // Another machine may need it to give its NICs back.
        let devices = "/sys/bus/pci/devices"
        let isNeeded = Files.names(devices).contains { PortMark(of: "\(devices)/\($0)") != nil }
        if !isNeeded { _ = clinux_remount(path, 0, 1) }
    }

    /// The mount's root, open: as long as it is, nobody can unmount it. Between a machine's mounting and its switch's first
    /// page another machine may end.
    static func mount(_ kind: String, at path: String) throws(Failure) -> HeldDescriptor {
        do throws(Errno) {
            for _ in 0..<10 {
                try Files.makeFolders(path, mode: 0o755)
                if device(at: path) == nil { try Errno.check { clinux_mount(ours, path, kind) } }
                let root = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
                // What was opened may be the folder below, when another has unmounted it in between.
                if device(at: path) != nil, try root.status().st_dev == Files.status(path).st_dev {
                    return HeldDescriptor(root)
                }
            }
            throw .busy
        } catch {
            throw Failure(
                .host, "mount \(kind) at", path, error,
                remedy: error.isRefusal ? "in a container: docker run --privileged, or -v /dev/hugepages:\(path)" : nil)
        }
    }

    /// Another machine's switches may still have it: then its launcher unmounts it.
    static func unmount(_ path: String) {
        if device(at: path) == ours { _ = clinux_unmount(path) }
    }

    private static func device(at path: String) -> String? {
        let resolved = (try? Files.resolved(path)) ?? path
        return (FileTree().text("/proc/self/mounts") ?? "").split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            return fields.count > 1 && fields[1] == resolved ? String(fields[0]) : nil
        }.last
    }
}

/// What Snabb processes leave when they are killed together with those that would clean up after them.
enum SwitchFiles {
    static func remove(_ path: String) {
        for process in Files.names(path) {
            let folder = "\(path)/\(process)/group/dma"
            // Each of its hugepages is a file, and a link to it here.
            for name in Files.names(folder) {
                guard let target = Files.linkTarget("\(folder)/\(name)"), target.hasPrefix(Folders.snabbHugepages + "/")
                else { continue }
                unlink(target)
            }
        }
        Files.removeTree(path)
    }
}
