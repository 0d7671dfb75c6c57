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
        for image in [image, findings.cdrom].compactMap(\.self) { try refuseWritten(image) }
        let secret = try secretEffects()
        let own = try ownDisk()
        let disks = [own?.decision] + [image?.format == .iso ? image : nil, findings.cdrom].map { $0.map(cd) }
        return PlanPart(
            decision: disks.compactMap(\.self),
            effects: secret + (own?.effects ?? []) + (try firmwareEffects()) + recordEffects(own?.decision),
            notes: own?.notes ?? [])
    }

    /// QEMU would refuse it in its own words, and a copy of it would be of no one moment.
    private func refuseWritten(_ image: DiskImage) throws(Failure) {
        guard image.isWritten == true else { return }
        throw Failure(
            .busy, "use image", image.path, "another QEMU has it open for writing",
            remedy: "end that first, or give another image")
    }

    private func cd(_ image: DiskImage) -> Plan.DiskPlan {
        Plan.DiskPlan(
            role: .cdrom, path: image.path, format: .iso, size: image.virtualSize, isDevice: image.isBlockDevice,
            served: image.served)
    }

    private func secretEffects() throws(Failure) -> [Effect] {
        let ownIsEncrypted = findings.hasKeptDisk && findings.record?.isEncrypted == true
        guard findings.image?.encryption != nil || ownIsEncrypted else {
            guard let file = findings.secretFile else { return [] }
            throw Failure(.usage, "use", "--secret-file \(file)", "the image is not encrypted")
        }
        guard let source = findings.secretFile else {
            throw Failure(
                .image, "use image", ownIsEncrypted ? folders.disk : findings.image?.path ?? "", "it is encrypted",
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
        let before = findings.hasKeptDisk ? findings.record?.image : nil
        // An overlay's image is where it was found now, and what was known of it stays known.
        let base = findings.hasKeptDisk && disk?.base == nil ? before : findings.image
        let kept = MachineRecord(
            uuid: uuid, image: before.flatMap { base?.knowing($0) } ?? base,
            diskFormat: disk?.format, diskSize: disk?.size, isOverlay: disk?.base != nil)
        let text = (try? JSON(encoding: kept).prettyText) ?? ""
        return [.file(path: folders.record, mode: 0o600, FileContent("\(text)\n"))]
    }

    private func copyCommand(_ from: String, to: String) throws(Failure) -> Command {
        guard let cp = facts.tools.cp else { throw Failure.missing("cp", package: "coreutils") }
        return Command(program: cp, arguments: ["--reflink=auto", "--sparse=auto", "--no-preserve=mode", from, to])
    }

    /// The disk alone: what it stands on may be elsewhere by now, still be coming, or want its passphrase.
    private func resize(_ path: String, _ format: DiskFormat, to size: ByteCount) -> Command {
        var disk: [String: JSON] = [
            "driver": .string(format.rawValue), "file": ["driver": "file", "filename": .string(path)],
        ]
        if format == .qcow2 { disk["backing"] = .null }
        if findings.secretFile != nil { disk["encrypt"] = ["format": "luks", "key-secret": "secret"] }
        let words = secretWords + ["-q", "json:\(JSON.object(disk).text)", "\(size.bytes)"]
        return Command(program: qemuImg, arguments: ["resize"] + words)
    }

    /// How qemu-img is given the passphrase.
    private var secretWords: [String] {
        findings.secretFile.map { ["--object", "secret,id=secret,file=\($0.optionQuoted)"] } ?? []
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
            try checkBase(record.image)
        } else if let image, let first = record.image, image.path != first.path {
            part.notes = ["the disk kept in \(folders.disks) was made from \(first.path); \(image.path) is not used"]
        }
        if let asked = arguments.diskSize, let old = record.diskSize {
            if asked < old {
                throw Failure(.image, "use", "--disk-size \(asked)", "the kept disk has \(old), and disks only grow")
            }
            if asked > old { part.effects = [.run(resize(folders.disk, format, to: asked))] }
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
            effects: [.disk(path: folders.disk, commands, copyOf: image.isBlockDevice ? nil : image)])
    }

    private func newDisk(on image: DiskImage?, size: ByteCount?) -> Disk {
        var words = ["create", "-q", "-f", "qcow2"]
        if let image { words += ["-b", image.path, "-F", image.format.rawValue] }
        words += secretWords
        if findings.secretFile != nil { words += ["-o", "encrypt.format=luks,encrypt.key-secret=secret"] }
        // What can't be opened yet: it is still coming, or wants its passphrase.
        let isClosed = image?.served != nil || image?.encryption != nil
        if isClosed { words.append("-u") }
        words.append(Effect.unfinished(folders.disk))
        if let size = size ?? (isClosed ? image?.virtualSize : nil) { words.append("\(size.bytes)") }
        return Disk(
            decision: Plan.DiskPlan(
                role: .disk, path: folders.disk, base: image, format: .qcow2, size: size ?? image?.virtualSize),
            effects: [
                .disk(path: folders.disk, passphraseCheck(image) + [Command(program: qemuImg, arguments: words)])
            ])
    }

    /// Opens an encrypted image: an overlay that was made with another passphrase than its own could never be used.
    private func passphraseCheck(_ image: DiskImage?) -> [Command] {
        guard let image, image.encryption != nil else { return [] }
        let file: JSON =
            image.served.map { ["driver": "nbd", "server": ["type": "unix", "path": .string($0)]] }
            ?? ["driver": image.isBlockDevice ? "host_device" : "file", "filename": .string(image.path)]
        let disk: JSON = ["driver": "qcow2", "encrypt": ["format": "luks", "key-secret": "secret"], "file": file]
        let words = secretWords + ["--output=json", "-O", "raw", "json:\(disk.text)"]
        return [Command(program: qemuImg, arguments: ["measure"] + words)]
    }

    /// An overlay holds only what differs: on another image, or a changed one, it is a broken disk.
    private func checkBase(_ before: DiskImage?) throws(Failure) {
        guard let before else { return }
        guard let now = findings.image else {
            throw Failure(.image, "boot the disk in", folders.disks, "it stands on \(before.path), which was not given")
        }
        guard let why = now.difference(from: before) else { return }
        let name = now.source ?? now.path
        throw Failure(
            .image, "boot the disk in", folders.disks,
            before.path == now.path && before.source == now.source
                ? "\(name) \(why) since the disk was made on it"
                : "it was made on \(before.source ?? before.path), and \(name) is another image: it \(why)",
            remedy: "give the image as it was, or choose another --state folder")
    }
}
