import CLinux
import Glibc
import Images
import Model
import Planning
import System
import Values

/// What an earlier start left in the --state folder.
struct KeptState {
    var record: MachineRecord?
    var hasDisk = false
    var hasVariables = false
    var warnings: [String] = []

    /// `mayBeRunning` where a machine of this name may have its disks there at this moment.
    init(_ folders: MachinePaths, mayBeRunning: Bool) throws(Failure) {
        if !folders.disksAreKept {
            try KeptState.refuseStrangers(folders, mayBeRunning)
            return
        }
        hasDisk = access(folders.disk, F_OK) == 0
        hasVariables = access(folders.firmwareVariables, F_OK) == 0
        let text = FileTree().text(folders.record)
        record = text.flatMap { try? JSON(parsing: $0).decode(MachineRecord.self) }
        if !hasDisk {
            // What was written of a disk that never came to be.
            if record == nil, text?.isEmpty == false { throw KeptState.unreadable(folders) }
            return
        }
        let (status, head) = try ImageInspection.open(folders.disk)
        let header = QcowHeader(head)
        if record == nil {
            record = try KeptState.rebuilt(folders, header)
            warnings = [
                "\(folders.record) can't be read: what the disk beside it stands on is taken from the disk itself,"
                    + " and whether that is still what it was can't be seen"
            ]
        }
        // The disk knows best how large it is, and whether it stands on anything: an earlier start may have failed before
        // it was grown, or a flattening have been broken off before its record was written.
        record?.diskSize = ByteCount(header?.size ?? UInt64(status.st_size))
        record?.isOverlay = header?.backing != nil
        record?.isEncrypted = header?.isEncrypted
    }

    private static func unreadable(_ folders: MachinePaths) -> Failure {
        Failure(
            .image, "read", folders.record, "it is no record of a machine",
            remedy: "remove it, or choose another --state folder")
    }

    /// Where everything is removed at the end, nothing may be that somebody keeps, or that is not ours.
    private static func refuseStrangers(_ folders: MachinePaths, _ mayBeRunning: Bool) throws(Failure) {
        if access(folders.record, F_OK) == 0 {
            throw Failure(
                .image, "use", folders.disks, "a machine's disk is kept there",
                remedy: "boot it with --state \(folders.disks), or choose another place with --scratch or --name")
        }
        if mayBeRunning || access(folders.scratchNote, F_OK) == 0 { return }
        guard let path = folders.diskFiles.first(where: { access($0, F_OK) == 0 }) else { return }
        throw Failure(
            .image, "make", path, "there is a file of this name, which no machine of snabbvm's has left there",
            remedy: "move it away, or choose another place with --scratch or --name")
    }

    /// From the disk's own header, where machine.json is gone or was never written: a power cut, or somebody's hand.
    private static func rebuilt(_ folders: MachinePaths, _ header: QcowHeader?) throws(Failure) -> MachineRecord {
        var image: DiskImage?
        if let path = header?.backing {
            guard path.hasPrefix("/"), access(path, F_OK) == 0 else {
                throw Failure(
                    .image, "boot the disk in", folders.disks, "it stands on \(path), which is not there",
                    remedy: "bring that back, or see snabbvm disk rebase")
            }
            let (status, _) = try ImageInspection.open(path)
            let found = DiskImage(
                path: path, format: header?.backingFormat ?? .raw, length: UInt64(status.st_size),
                modified: Files.modified(status))
            image = ImageCache.entry(at: path).map { found.knowing($0.image) } ?? found
        }
        let uuid = MachineIdentity.uuid(of: folders.name, nil, hostKey: Preparation.hostKey)
        return MachineRecord(
            uuid: uuid, image: image, diskFormat: header == nil ? .raw : .qcow2, isOverlay: image != nil)
    }
}
