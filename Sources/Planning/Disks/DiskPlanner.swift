import Model
import Values

/// The machine's disks: its own, CDs, what UEFI remembers, and what --state remembers of them.
struct DiskPlanner {
    let arguments: Arguments
    let facts: HostFacts
    let findings: Findings
    let qemuImg: String
    let uuid: String
    let user: User?

    private typealias Disk = PlanPart<Plan.DiskPlan>
    private var folders: MachinePaths { findings.folders }

    func plan() throws(Failure) -> PlanPart<[Plan.DiskPlan]> {
        let image = findings.image
        let secret = try secretEffects()
        let own = try ownDisk()
        let disks = [own?.decision] + [image?.format == .iso ? image : nil, findings.cdrom].map { $0.map(cd) }
        return PlanPart(
            decision: disks.compactMap(\.self),
            effects: secret + (own?.effects ?? []) + (try firmwareEffects()) + recordEffects(own?.decision),
            notes: own?.notes ?? [])
    }

    private func cd(_ image: DiskImage) -> Plan.DiskPlan {
        Plan.DiskPlan(
            role: .cdrom, path: image.path, format: .iso, size: image.virtualSize, isDevice: image.isBlockDevice,
            served: image.served)
    }

    private func secretEffects() throws(Failure) -> [Effect] {
        guard let image = findings.image, image.encryption != nil else {
            guard let file = findings.secretFile else { return [] }
            throw Failure(.usage, "use", "--secret-file \(file)", "the image is not encrypted")
        }
        guard let source = findings.secretFile else {
            throw Failure(
                .image, "use image", image.path, "it is encrypted",
                remedy: "give a file that holds its passphrase with --secret-file")
        }
        return [.secret(path: folders.secret, source: source, owner: user)]
    }

    static var noFirmware: Failure {
        Failure(.host, "use", "--firmware uefi", "there is no UEFI firmware", remedy: "apt-get install ovmf")
    }

    private func firmwareEffects() throws(Failure) -> [Effect] {
        if arguments.firmware != .uefi { return [] }
        guard let variables = facts.tools.firmwareVariables else { throw DiskPlanner.noFirmware }
        if findings.hasKeptVariables { return [] }
        let path = folders.firmwareVariables
        return [.disk(path: path, [try copyCommand(variables, to: Effect.unfinished(path))])]
    }

    private func recordEffects(_ disk: Plan.DiskPlan?) -> [Effect] {
        if !folders.disksAreKept { return [] }
        let kept = MachineRecord(
            uuid: uuid, image: findings.hasKeptDisk ? findings.record?.image : findings.image,
            diskFormat: disk?.format, diskSize: disk?.size, isOverlay: disk?.base != nil)
        let text = (try? JSON(encoding: kept).prettyText) ?? ""
        return [.file(path: folders.record, mode: 0o600, FileContent("\(text)\n"))]
    }

    private func copyCommand(_ from: String, to: String) throws(Failure) -> Command {
        guard let cp = facts.tools.cp else { throw Failure.missing("cp", package: "coreutils") }
        return Command(program: cp, arguments: ["--reflink=auto", "--sparse=auto", "--no-preserve=mode", from, to])
    }

    private func resize(_ path: String, _ format: DiskFormat, to size: ByteCount) -> Command {
        Command(program: qemuImg, arguments: ["resize", "-q", "-f", format.rawValue, path, "\(size.bytes)"])
    }

    // MARK: - The machine's own disk

    /// The disk that --state kept, or a copy of the image, or an overlay on it, or a blank one; nil where nobody asks
    /// for any.
    private func ownDisk() throws(Failure) -> Disk? {
        let isCD = findings.image?.format == .iso
        let image = isCD ? nil : findings.image
        let asked = arguments.diskSize
        if let image, let asked, asked < image.virtualSize {
            throw Failure(
                .image, "use", "--disk-size \(asked)", "the image has \(image.virtualSize), and disks only grow")
        }
        let blank = isCD ? asked ?? .mebibytes(2048) : asked ?? findings.record?.diskSize
        if image == nil, blank == nil { return nil }
        if findings.hasKeptDisk, let record = findings.record { return try keptDisk(record, on: image) }
        if arguments.copy, let image { return try copiedDisk(of: image) }
        return newDisk(on: image, size: image == nil ? blank : asked)
    }

    private func keptDisk(_ record: MachineRecord, on image: DiskImage?) throws(Failure) -> Disk {
        guard let format = record.diskFormat else {
            throw Failure(
                .image, "boot", folders.disk, "it was not there when machine.json was written",
                remedy: "choose another --state folder")
        }
        var part = Disk(
            decision: Plan.DiskPlan(
                role: .disk, path: folders.disk, base: record.isOverlay ? image : nil, format: format,
                size: arguments.diskSize ?? record.diskSize))
        if record.isOverlay {
            try checkUnchanged(record.image)
        } else if let image, let first = record.image, image.path != first.path {
            part.notes = ["the disk kept in \(folders.disks) was made from \(first.path); \(image.path) is not used"]
        }
        if let asked = arguments.diskSize, let old = record.diskSize {
            if asked < old {
                throw Failure(.image, "use", "--disk-size \(asked)", "the kept disk has \(old), and disks only grow")
            }
            // Also to the size that the disk should have already: an earlier start may have failed before it was grown.
            part.effects = [.run(resize(folders.disk, format, to: asked))]
        }
        return part
    }

    private func copiedDisk(of image: DiskImage) throws(Failure) -> Disk {
        if let free = findings.diskSpace, free.bytes < image.allocated {
            throw Failure(
                .noSpace, "copy", image.path,
                "\(folders.disks) has \(free) free, and it takes \(ByteCount(image.allocated))",
                remedy: "choose another place with --scratch or --state, or leave out --copy")
        }
        let new = Effect.unfinished(folders.disk)
        // The other formats are not made to be written to.
        let isWritable = [.qcow2, .raw].contains(image.format)
        let convert = ["convert", "-q", "-f", image.format.rawValue, "-O", "qcow2", image.path, new]
        var commands = [
            isWritable ? try copyCommand(image.path, to: new) : Command(program: qemuImg, arguments: convert)
        ]
        let format = isWritable ? image.format : .qcow2
        if let size = arguments.diskSize, size > image.virtualSize {
            if image.encryption != nil {
                throw Failure(
                    .image, "use", "--disk-size", "an encrypted image can't be grown in its copy",
                    remedy: "leave out --copy")
            }
            commands.append(resize(new, format, to: size))
        }
        return Disk(
            decision: Plan.DiskPlan(
                role: .disk, path: folders.disk, format: format, size: arguments.diskSize ?? image.virtualSize),
            effects: [.disk(path: folders.disk, commands)])
    }

    private func newDisk(on image: DiskImage?, size: ByteCount?) -> Disk {
        var words = ["create", "-q", "-f", "qcow2"]
        if let image { words += ["-b", image.path, "-F", image.format.rawValue] }
        if let secret = findings.secretFile {
            words += ["--object", "secret,id=secret,file=\(secret.optionQuoted)"]
            words += ["-o", "encrypt.format=luks,encrypt.key-secret=secret"]
        }
        // What can't be opened yet: it is still coming, or wants its passphrase.
        let isClosed = image?.served != nil || image?.encryption != nil
        if isClosed { words.append("-u") }
        words.append(Effect.unfinished(folders.disk))
        if let size = size ?? (isClosed ? image?.virtualSize : nil) { words.append("\(size.bytes)") }
        return Disk(
            decision: Plan.DiskPlan(
                role: .disk, path: folders.disk, base: image, format: .qcow2, size: size ?? image?.virtualSize),
            effects: [.disk(path: folders.disk, [Command(program: qemuImg, arguments: words)])])
    }

    /// An overlay holds only what differs: on another image, or a changed one, it is a broken disk.
    private func checkUnchanged(_ before: DiskImage?) throws(Failure) {
        guard let before else { return }
        guard let now = findings.image else {
            throw Failure(.image, "boot the disk in", folders.disks, "it stands on \(before.path), which was not given")
        }
        // Fetched once more it is the same image, at whatever time.
        let isSameFetch = before.digest != nil && before.digest == now.digest
        let isUntouched = before.fileSize == now.fileSize && before.modified == now.modified
        if isSameFetch || isUntouched, before.format == now.format { return }
        throw Failure(
            .image, "boot the disk in", folders.disks,
            before.path == now.path
                ? "\(now.path) was changed since the disk was made on it"
                : "it was made on \(before.path), and \(now.path) is another image",
            remedy: "give the image as it was, or choose another --state folder")
    }
}
