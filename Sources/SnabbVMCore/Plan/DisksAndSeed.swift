/// The steps that make the machine's folders, its disks and the seed.
extension Plan {
    mutating func planFolders() {
        steps.append(.folder(path: folders.base, mode: 0o755, isShared: true))
        // QEMU's user must pass through to its pipes; what is inside has modes of its own.
        steps.append(.folder(path: folders.run, mode: 0o711, isShared: false))
        if let scratch = folders.scratch { steps.append(.folder(path: scratch, mode: 0o755, isShared: true)) }
        steps.append(.folder(path: folders.disks, mode: 0o700, isShared: folders.disksAreKept))
    }

    mutating func planDisks(
        _ arguments: Arguments, _ facts: Facts, _ inspected: Inspected, qemuImg: String
    ) throws(Failure) {
        let image = inspected.image
        try planSecret(for: image, facts, inspected)
        if let image, image.format == .iso {
            let size = arguments.diskSize ?? .mebibytes(2048)
            try planDisk(on: nil, size: size, arguments, inspected, qemuImg: qemuImg, facts)
            planCD(image)
        } else if let image {
            if let size = arguments.diskSize, size < image.virtualSize {
                throw Failure(
                    .image, "use", "--disk-size \(size)", "the image has \(image.virtualSize), and disks only grow")
            }
            try planDisk(on: image, size: arguments.diskSize, arguments, inspected, qemuImg: qemuImg, facts)
        } else if let size = arguments.diskSize ?? (inspected.record?.diskSize) {
            try planDisk(on: nil, size: size, arguments, inspected, qemuImg: qemuImg, facts)
        }
        if let cdrom = inspected.cdrom { planCD(cdrom) }
        if firmware == .uefi {
            guard let variables = facts.tools.firmwareVariables else { throw Plan.noFirmware }
            if !inspected.hasKeptVariables { try planCopy(variables, to: folders.firmwareVariables, facts) }
        }
        if folders.disksAreKept {
            let disk = disks.first { $0.role == .disk }
            let kept = MachineRecord(
                uuid: uuid, image: inspected.hasKeptDisk ? inspected.record?.image : image, diskFormat: disk?.format,
                diskSize: disk?.size, isOverlay: disk?.base != nil)
            let text = (try? JSON(encoding: kept).prettyText) ?? ""
            steps.append(.file(path: folders.record, mode: 0o600, FileContent("\(text)\n")))
        }
    }

    private mutating func planCD(_ image: DiskImage) {
        disks.append(
            DiskPlan(
                role: .cdrom, path: image.path, format: .iso, size: image.virtualSize, isDevice: image.isBlockDevice,
                served: image.served))
    }

    private mutating func planSecret(
        for image: DiskImage?, _ facts: Facts, _ inspected: Inspected
    ) throws(Failure) {
        guard let image, image.encryption != nil else {
            if let file = inspected.secretFile {
                throw Failure(.usage, "use", "--secret-file \(file)", "the image is not encrypted")
            }
            return
        }
        guard let source = inspected.secretFile else {
            throw Failure(
                .image, "use image", image.path, "it is encrypted",
                remedy: "give a file that holds its passphrase with --secret-file")
        }
        secretSource = source
        steps.append(.secret(path: folders.secret, source: source, owner: qemuUser(facts, inspected)))
    }

    private func planCopyCommand(_ from: String, to: String, _ facts: Facts) throws(Failure) -> Command {
        guard let cp = facts.tools.cp else { throw Failure.missing("cp", package: "coreutils") }
        return Command(program: cp, arguments: ["--reflink=auto", "--sparse=auto", "--no-preserve=mode", from, to])
    }

    private mutating func planCopy(_ from: String, to: String, _ facts: Facts) throws(Failure) {
        steps.append(.disk(path: to, [try planCopyCommand(from, to: Step.unfinished(to), facts)]))
    }

    /// The machine's own disk: the one that --state kept, or a copy of the image, or an overlay on it, or blank.
    private mutating func planDisk(
        on image: DiskImage?, size: ByteCount?, _ arguments: Arguments, _ inspected: Inspected, qemuImg: String,
        _ facts: Facts
    ) throws(Failure) {
        if inspected.hasKeptDisk, let record = inspected.record {
            try planKeptDisk(record, on: image, asked: arguments.diskSize, given: inspected.image, qemuImg: qemuImg)
        } else if arguments.copy, let image {
            try planCopiedDisk(of: image, size: size, free: inspected.diskSpace, qemuImg: qemuImg, facts)
        } else {
            planNewDisk(on: image, size: size, qemuImg: qemuImg)
        }
    }

    private mutating func planKeptDisk(
        _ record: MachineRecord, on image: DiskImage?, asked: ByteCount?, given: DiskImage?, qemuImg: String
    ) throws(Failure) {
        guard let format = record.diskFormat else {
            throw Failure(
                .image, "boot", folders.disk, "it was not there when machine.json was written",
                remedy: "choose another --state folder")
        }
        if record.isOverlay {
            try Plan.checkUnchanged(record.image, now: given, folders)
        } else if let image, let first = record.image, image.path != first.path {
            notes.append("the disk kept in \(folders.disks) was made from \(first.path); \(image.path) is not used")
        }
        if let asked, let old = record.diskSize {
            if asked < old {
                throw Failure(.image, "use", "--disk-size \(asked)", "the kept disk has \(old), and disks only grow")
            }
            // Also to the size it should have already: an earlier start may have failed before it was grown.
            steps.append(.run(Plan.resize(folders.disk, format, to: asked, qemuImg: qemuImg)))
        }
        disks.append(
            DiskPlan(
                role: .disk, path: folders.disk, base: record.isOverlay ? image : nil, format: format,
                size: asked ?? record.diskSize))
    }

    private mutating func planCopiedDisk(
        of image: DiskImage, size: ByteCount?, free: ByteCount?, qemuImg: String, _ facts: Facts
    ) throws(Failure) {
        if let free, free.bytes < image.allocated {
            throw Failure(
                .noSpace, "copy", image.path,
                "\(folders.disks) has \(free) free, and it takes \(ByteCount(image.allocated))",
                remedy: "choose another place with --scratch or --state, or leave out --copy")
        }
        let new = Step.unfinished(folders.disk)
        // The other formats are not made to be written to.
        let isWritable = [.qcow2, .raw].contains(image.format)
        let convert = ["convert", "-q", "-f", image.format.rawValue, "-O", "qcow2", image.path, new]
        var commands = [
            isWritable
                ? try planCopyCommand(image.path, to: new, facts) : Command(program: qemuImg, arguments: convert)
        ]
        let format = isWritable ? image.format : .qcow2
        if let size, size > image.virtualSize {
            if image.encryption != nil {
                throw Failure(
                    .image, "use", "--disk-size", "an encrypted image can't be grown in its copy",
                    remedy: "leave out --copy")
            }
            commands.append(Plan.resize(new, format, to: size, qemuImg: qemuImg))
        }
        steps.append(.disk(path: folders.disk, commands))
        disks.append(DiskPlan(role: .disk, path: folders.disk, format: format, size: size ?? image.virtualSize))
    }

    private mutating func planNewDisk(on image: DiskImage?, size: ByteCount?, qemuImg: String) {
        var words = ["create", "-q", "-f", "qcow2"]
        if let image { words += ["-b", image.path, "-F", image.format.rawValue] }
        if let secret = secretSource {
            words += ["--object", "secret,id=secret,file=\(secret.optionQuoted)"]
            words += ["-o", "encrypt.format=luks,encrypt.key-secret=secret"]
        }
        // What can't be opened yet: it is still coming, or wants its passphrase.
        let isClosed = image?.served != nil || image?.encryption != nil
        if isClosed { words.append("-u") }
        words.append(Step.unfinished(folders.disk))
        if let size = size ?? (isClosed ? image?.virtualSize : nil) { words.append("\(size.bytes)") }
        steps.append(.disk(path: folders.disk, [Command(program: qemuImg, arguments: words)]))
        disks.append(
            DiskPlan(
                role: .disk, path: folders.disk, base: image, format: .qcow2, size: size ?? image?.virtualSize))
    }

    private static func resize(_ path: String, _ format: DiskFormat, to size: ByteCount, qemuImg: String) -> Command {
        Command(program: qemuImg, arguments: ["resize", "-q", "-f", format.rawValue, path, "\(size.bytes)"])
    }

    /// An overlay holds only what differs: on another image, or a changed one, it is a broken disk.
    private static func checkUnchanged(_ before: DiskImage?, now: DiskImage?, _ folders: Folders) throws(Failure) {
        guard let before else { return }
        guard let now else {
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

    mutating func planSeed(_ arguments: Arguments, _ facts: Facts, _ inspected: Inspected) throws(Failure) {
        if inspected.seed.isEmpty, arguments.hostname == nil { return }
        guard let xorriso = facts.tools.xorriso else { throw Failure.missing("xorriso", package: "xorriso") }
        let content = try SeedContent(
            inspected.seed, instanceID: uuid, hostname: arguments.hostname ?? name,
            setsHostname: arguments.hostname != nil, network: GuestNetworkConfig(networks))
        steps.append(.folder(path: folders.seedFiles, mode: 0o700, isShared: false))
        var grafts: [String] = []
        for (index, file) in content.files.enumerated() {
            // The same bytes stand in the disk twice; one staged file serves both.
            let first = content.files.firstIndex { $0.content == file.content } ?? index
            let staged = "\(folders.seedFiles)/\(first)"
            if first == index { steps.append(.file(path: staged, mode: 0o600, file.content)) }
            grafts.append("\(file.path)=\(staged)")
        }
        let options = [
            "-as", "mkisofs", "-quiet", "-no-pad", "-volid", arguments.seedLabel.rawValue, "-joliet", "-rock",
        ]
        steps.append(
            .seed(path: folders.seed, Command(program: xorriso, arguments: options + ["-graft-points"] + grafts)))
        disks.append(DiskPlan(role: .seed, path: folders.seed, format: .iso))
    }
}
