import CLinux
import Glibc
import Model
import System
import Values

extension Effect.Mount: Performable {
    /// A mount is in the ledger from right before it is made, by `make`: a start that fails earlier must not unmount what
    /// another machine has mounted.
    package func records(_ folders: MachinePaths) -> [Effect]? { [] }

    package func make(_ maker: inout EffectMaker) throws {
        let folders = Files.missingFolders(path).map { Effect.folder(path: $0, isShared: true) }
        try maker.ledger.record(folders + [.mount(path: path)])
        maker.ledger.hold(try mount(kind ?? "auto"))
    }

    /// The mount's root, open: as long as it is, nobody can unmount it. Between a machine's mounting and its switch's first
    /// page another machine may end.
    private func mount(_ kind: String) throws(Failure) -> HeldDescriptor {
        do throws(Errno) {
            for _ in 0..<10 {
                try Files.makeFolders(path, mode: 0o755)
                if mounted == nil { try Errno.check { clinux_mount(Effect.Mount.device, path, kind) } }
                let root = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
                // What was opened may be the folder below, when another has unmounted it in between.
                if mounted != nil, try root.status().st_dev == Files.status(path).st_dev {
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
    package func undo() {
        if mounted == Effect.Mount.device { _ = clinux_unmount(path) }
    }

    /// The device of what is mounted there.
    private var mounted: String? {
        let resolved = (try? Files.resolved(path)) ?? path
        let mounts = FileTree().lines("/proc/self/mounts").map { $0.split(separator: " ") }
        return mounts.last { $0.count > 1 && $0[1] == resolved }.map { String($0[0]) }
    }
}
