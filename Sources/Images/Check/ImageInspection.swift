import CLinux
import Glibc
import Model
import System
import Values

/// Reads an image in two steps, so that others can work while qemu-img does.
package struct ImageInspection {
    private let known: DiskImage
    private let wanted: DiskFormat?
    private let head: DiskHead
    private let job: Job?

    /// Sniffs the first bytes, and sets qemu-img to work where it is needed.
    package init(_ path: String, format: DiskFormat?, qemuImg: String, loop: EventLoop) throws {
        let (opened, file, head) = try ImageInspection.look(path)
        let type = file.st_mode & S_IFMT
        let length = type == S_IFBLK ? opened.size : UInt64(file.st_size)
        var image = DiskImage(path: path, format: .iso, length: length, modified: Files.modified(file))
        image.isBlockDevice = type == S_IFBLK
        image.allocated = UInt64(file.st_blocks) * 512
        if clinux_has_qemu_writer(opened.raw) == 1 { image.isWritten = true }
        if image.isBlockDevice { image.device = DeviceStamp(opened, number: UInt64(file.st_rdev)) }
        try self.init(image, head, target: path, format: format, qemuImg: qemuImg, loop: loop)
    }

    /// `target` is where qemu-img finds it.
    init(
        _ image: DiskImage, _ head: DiskHead, target: String, format: DiskFormat?, qemuImg: String, loop: EventLoop
    ) throws {
        known = image
        wanted = format
        self.head = head
        let path = image.path
        if head.bytes.isEmpty { throw Failure(.image, "use image", path, "it is empty") }
        if format == .iso, !head.isISO { throw Failure(.image, "use image", path, "it is no ISO 9660 image") }
        if head.isISO, format == nil || format == .iso {
            job = nil
            return
        }
        try image.refuseOthers(head, format)
        var command = Command(program: qemuImg, arguments: ["info", "--output=json", "--force-share"])
        if let format { command.arguments += ["-f", format.rawValue] }
        command.arguments.append(target)
        // Made for images that could be anybody's: a broken one must not take the host's memory or time.
        command.addressSpace = 2 << 30
        command.cpuSeconds = 20
        // From a socket it comes as fast as its server sends it.
        let limit = target == path ? Duration.seconds(30) : .seconds(24 * 3600)
        job = try Job(command, in: loop, limit: limit, kind: .image)
    }

    /// The file and its first bytes.
    package static func open(_ path: String) throws(Failure) -> (stat, DiskHead) {
        let (_, status, head) = try look(path)
        return (status, head)
    }

    private static func look(_ path: String) throws(Failure) -> (HeldDescriptor, stat, DiskHead) {
        let file = try HeldDescriptor(opening: path, O_RDONLY | O_NONBLOCK | O_NOCTTY, .image, "read image")
        let status = try Failure.naming(.image, "read image", path, try file.descriptor.status())
        guard [S_IFREG, S_IFBLK].contains(status.st_mode & S_IFMT) else {
            throw Failure(.image, "use image", path, "it is neither a file nor a disk")
        }
        let bytes = try Failure.naming(.image, "read image", path, try file.descriptor.readAll(limit: DiskHead.size))
        return (file, status, DiskHead(bytes))
    }

    /// With what the cache knows of it, where it is one of the cache's.
    package func finish() throws -> DiskImage {
        var image = known
        if let job {
            let output = try job.finish(.image, "read image", known.path)
            image = try known.described(by: output, head, as: wanted)
        }
        return ImageCache.entry(at: image.path).map { image.knowing($0.image) } ?? image
    }
}

extension DiskImage {
    /// What could name other files of the host, before qemu-img opens them.
    fileprivate func refuseOthers(_ head: DiskHead, _ wanted: DiskFormat?) throws(Failure) {
        if wanted == nil, let packer = head.packer {
            throw unusable("it is packed (\(packer)) inside", remedy: "unpack it, and give what is in it")
        }
        if head.isDescriptor, wanted == nil || wanted == .vmdk {
            throw standsOnOthers("its data is in other files, which could be any of this host")
        }
        if head.hasExternalData, wanted == nil || wanted == .qcow2 {
            throw standsOnOthers("its data is in another file, which could be any of this host")
        }
    }

    /// With what qemu-img says of it, or why it can't be booted.
    func described(by output: [UInt8], _ head: DiskHead, as wanted: DiskFormat?) throws(Failure) -> DiskImage {
        let info = try JSON(parsing: output) { Failure(.image, "read image", path, "qemu-img's answer is \($0)") }
        var image = self
        // Only a device knows its own size here; for a file qemu-img's word is taken.
        guard let size = info["virtual-size"]?.integer, size > 0 else { throw unusable("it holds no disk") }
        let name = info["format"]?.string ?? "unknown"
        guard let format = DiskFormat(rawValue: name), format != .iso else {
            throw unusable(
                "it is a \(name) image, and none of \(DiskFormat.allCases.map(\.rawValue).joined(separator: ", "))",
                remedy: "make one of it with qemu-img convert -O qcow2 IMAGE disk.qcow2")
        }
        image.format = format
        image.virtualSize = ByteCount(UInt64(size))
        let details = info["format-specific"]?["data"]
        try refuseOtherFiles(info, details, format)
        image.encryption = info["encrypted"]?.bool == true ? details?["encrypt"]?["format"]?.string ?? "aes" : nil
        if let encryption = image.encryption, format != .qcow2 || encryption != "luks" {
            throw unusable(
                "it is encrypted (\(encryption)), and only LUKS in qcow2 is taken",
                remedy: "decrypt it with qemu-img convert")
        }
        if details?["corrupt"]?.bool == true {
            throw unusable("it is marked corrupt", remedy: "try qemu-img check -r all IMAGE")
        }
        if format == .qcow2 { try refuseTruncated(head) }
        if format == .raw, wanted == nil { try refuseUnbootable(head) }
        return image
    }

    private func unusable(_ cause: String, remedy: String? = nil) -> Failure {
        Failure(.image, "use image", path, cause, remedy: remedy)
    }

    /// Either could name any file of the host, which the guest would then read.
    private func refuseOtherFiles(_ info: JSON, _ details: JSON?, _ format: DiskFormat) throws(Failure) {
        if let backing = info["backing-filename"]?.string {
            throw standsOnOthers("it needs another file, '\(backing)', which could be any file of this host")
        }
        if let data = details?["data-file"]?.string {
            throw standsOnOthers("its data is in another file, '\(data)', which could be any file of this host")
        }
        let kind = details?["create-type"]?.string ?? ""
        if format == .vmdk, !["monolithicSparse", "streamOptimized"].contains(kind) {
            throw standsOnOthers("it is a VMDK of several files (\(kind)), which could be any of this host")
        }
    }

    private func standsOnOthers(_ cause: String) -> Failure {
        unusable(cause, remedy: "make it whole with qemu-img convert -O qcow2 IMAGE disk.qcow2")
    }

    func refuseUnbootable(_ head: DiskHead) throws(Failure) {
        switch PartitionTable.find(in: head.bytes, size: fileSize) {
        case .none:
            throw unusable(
                "it has no boot sector, and is of no format that is known here",
                remedy: "if it is a disk all the same, say --format raw")
        case .broken(let words): throw unusable(words, remedy: "if it is to be booted all the same, say --format raw")
        case .bootSector, .mbr, .gpt: break
        }
    }

    /// A download that broke off has its header and lacks the tables, which qemu-img does not look at.
    private func refuseTruncated(_ head: DiskHead) throws(Failure) {
        let bigEndian = { (offset: Int, count: Int) in
            head.bytes[offset..<offset + count].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        }
        guard head.bytes.count >= 72, !isBlockDevice else { return }
        let (entries, offset) = (bigEndian(36, 4), bigEndian(40, 8))
        if offset &+ entries * 8 > fileSize {
            throw unusable(
                "it is cut short: \(fileSize) bytes, and its tables lie beyond", remedy: "fetch or copy it again")
        }
    }
}
