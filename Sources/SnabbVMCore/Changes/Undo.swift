import CLinux
import Glibc

extension Change {
    /// Puts the host back. Done again, or for a change that was never made, it does nothing.
    func undo() throws(Failure) {
        switch self {
        case .file(let path): try Change.remove(path, by: unlink, ignoring: [.notFound])
        case .folder(let path, let isShared):
            try Change.remove(
                path, by: rmdir, ignoring: isShared ? [.notFound, .notEmpty, .exists, .busy] : [.notFound])
        case .process(_, let identity): try Change.end(identity)
        case .nic(let state): try state.giveBack()
        case .remount(let path): Mounts.makeReadOnly(path)
        case .mount(let path): Mounts.unmount(path)
        case .hugepageAdded: try Change.removeHugepage()
        case .xdp(let name):
            try Change.call("take the XDP program off", name) { clinux_xdp_detach(name) }
            Files.removeTree("/sys/fs/bpf/snabb/\(name)")
        case .interfaceUp(let name): try Change.call("take down", name) { clinux_interface_set_up(name, 0) }
        case .tap(let name, let isMultiQueue, let namespace):
            guard try Change.isHere(namespace, name), if_nametoindex(name) != 0 else { return }
            try Change.call("remove tap", name) { clinux_tap_remove(name, isMultiQueue ? 1 : 0) }
        case .bridged(let state, let bridge, let namespace):
            if try Change.isHere(namespace, state.name) { try state.giveBack(from: bridge) }
        case .tables(let name, let families, let namespace):
            if try Change.isHere(namespace, name) { try NetworkTools.removeTables(name, families) }
        case .setting(let path, let before, let value, let namespace):
            if try Change.isHere(namespace, path) { try Change.restore(path, before, unlessNot: value) }
        case .switchFiles(let path): SwitchFiles.remove(path)
        }
    }

    /// A container that was started again has another network, and the old one is gone with all that was in it. One that
    /// is still there can only be put back in it.
    private static func isHere(_ namespace: UInt64, _ name: String) throws(Failure) -> Bool {
        if namespace == Facts.Network.currentNamespace { return true }
        let named = ["/run/netns", "/run/docker/netns"].flatMap { folder in
            Files.names(folder).map { "\(folder)/\($0)" }
        }
        let processes = Files.names("/proc").filter { UInt32($0) != nil }.map { "/proc/\($0)/ns/net" }
        guard
            let place = (named + processes).first(where: {
                (try? Files.status($0)).map { UInt64($0.st_ino) } == namespace
            })
        else {
            return false
        }
        throw Failure(
            .cleanup, "give back", name, "it is in another network namespace",
            remedy: "nsenter --net=\(place) snabbvm release")
    }

    /// What somebody else has changed since is theirs.
    private static func restore(_ path: String, _ before: String, unlessNot value: String) throws(Failure) {
        guard FileTree().line(path) == value else { return }
        do throws(Errno) { try Descriptor.open(path, O_WRONLY).writeAll(Array("\(before)\n".utf8)) } catch {
            throw Failure(.cleanup, "write", path, error, remedy: "echo \(before) > \(path)")
        }
    }

    private static func removeHugepage() throws(Failure) {
        let path = "/proc/sys/vm/nr_hugepages"
        guard let count = FileTree().number(path), count > 0 else { return }
        do throws(Errno) { try Descriptor.open(path, O_WRONLY).writeAll(Array("\(count - 1)\n".utf8)) } catch {
            throw Failure(.cleanup, "write", path, error, remedy: "sysctl vm.nr_hugepages=\(count - 1)")
        }
    }

    /// What is gone already needs no undoing.
    private static func call(_ operation: String, _ name: String, _ body: () -> Int32) throws(Failure) {
        do throws(Errno) { try Errno.check(body) } catch {
            if error != .noDevice { throw Failure(.cleanup, operation, name, error) }
        }
    }

    private static func remove(
        _ path: String, by call: (UnsafePointer<CChar>) -> Int32, ignoring: [Errno]
    ) throws(Failure) {
        do throws(Errno) { try Errno.check { call(path) } } catch {
            if !ignoring.contains(error) { throw Failure(.cleanup, "remove", path, error) }
        }
    }

    /// How long the kernel gets to bury a killed process, whose memory it must give back first.
    private static let patience: Int32 = 20_000

    private static func end(_ identity: ProcessIdentity) throws(Failure) {
        let raw = clinux_pidfd_open(identity.pid)
        if raw < 0 { return }
        let process = Descriptor(raw)
        // Looked at after the pidfd is open: so it can't become another process's in between.
        guard identity.isAlive else { return }
        clinux_pidfd_send_signal(process.raw, SIGKILL)
        var ended = pollfd(fd: process.raw, events: Int16(POLLIN), revents: 0)
        if poll(&ended, 1, patience) == 0 {
            throw Failure(.cleanup, "end process", "\(identity.pid)", "it was killed and does not go away")
        }
    }
}
