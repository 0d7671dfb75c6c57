import CLinux
import Glibc
import Model
import System
import Values

extension MachinePaths {
    /// From the folder and the environment in which the launcher was started.
    package init(_ arguments: Arguments, uid: UInt32 = geteuid()) {
        var absolute = arguments
        for field in [\Arguments.runFolder, \.scratch, \.cache, \.state] {
            absolute[keyPath: field] = arguments[keyPath: field].map(Files.absolute)
        }
        self.init(absolute: absolute, uid: uid, runtimeFolder: MachinePaths.runtimeFolder(uid))
    }

    /// As the user's session says, or as it would; without a session in the user's home. Who has none, as in a container,
    /// has a folder beside those of others, which is believed only if nobody else was there first.
    private static func runtimeFolder(_ uid: UInt32) -> String {
        if let said = Environment.current["XDG_RUNTIME_DIR"], said.hasPrefix("/") { return said }
        let usual = "/run/user/\(uid)"
        if Files.isFolder(usual) { return usual }
        if let home = Environment.current["HOME"], home.hasPrefix("/"), (try? Files.status(home))?.st_uid == uid {
            return "\(home)/.local/state"
        }
        return "/tmp/snabbvm-\(uid)"
    }

    /// One machine at a time has a --state folder, whatever the machines' names are: its lock, while it is held. A new
    /// folder stays only if something comes to be in it.
    package func lockState(_ ledger: Ledger) throws(Failure) -> Descriptor? {
        guard disksAreKept else { return nil }
        try ledger.record(Files.missingFolders(disks).map { .folder(path: $0, isShared: true) })
        do throws(Errno) {
            try Files.makeFolders(disks, mode: 0o700)
            let folder = try Descriptor.open(disks, O_RDONLY | O_DIRECTORY)
            if try folder.tryLock() {
                // Of a flattening that was killed.
                unlink(flattened)
                return folder
            }
        } catch {
            throw Failure(.host, "use", "--state \(disks)", error)
        }
        throw Failure(.busy, "use", "--state \(disks)", "another machine has it", remedy: "choose another folder")
    }
}
