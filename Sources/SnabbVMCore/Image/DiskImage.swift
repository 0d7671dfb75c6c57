import CLinux
import Glibc

/// What an image is, as its content and qemu-img say.
struct DiskImage: Codable, Equatable {
    var path: String
    var format: DiskFormat
    var virtualSize: ByteCount
    var isBlockDevice: Bool
    /// What tells whether the file was changed since an overlay was put on it.
    var fileSize: UInt64
    /// What a copy takes, where holes stay holes.
    var allocated: UInt64
    var modified: Int64
}

/// Reads an image in two steps, so that others can work while qemu-img does.
struct ImageInspection {
    private let path: String
    private let status: stat
    private let wanted: DiskFormat?
    private let isISO: Bool
    private let firstBytes: [UInt8]
    private let job: Job?

    /// Sniffs the first bytes, and sets qemu-img to work where it is needed.
    init(_ path: String, format: DiskFormat?, qemuImg: String, loop: EventLoop) throws {
        self.path = path
        wanted = format
        do throws(Errno) {
            let file = try Descriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
            status = try file.status()
            let type = status.st_mode & S_IFMT
            guard type == S_IFREG || type == S_IFBLK else { throw Errno(code: EINVAL) }
            firstBytes = try file.readAll(limit: 34 * 1024)
        } catch {
            let odd = error == Errno(code: EINVAL)
            throw odd
                ? Failure(.image, "use image", path, "it is neither a file nor a disk")
                : Failure(.image, "read image", path, error)
        }
        if firstBytes.isEmpty { throw Failure(.image, "use image", path, "it is empty") }
        try Self.refuseOthers(path, firstBytes, wanted)
        let volume = Array("CD001".utf8)
        let hasVolume = firstBytes.count > 32774 && firstBytes[32769..<32774].elementsEqual(volume)
        if format == .iso, !hasVolume { throw Failure(.image, "use image", path, "it is no ISO 9660 image") }
        isISO = hasVolume && (format == nil || format == .iso)
        if isISO {
            job = nil
            return
        }
        var command = Command(program: qemuImg, arguments: ["info", "--output=json", "--force-share"])
        if let format { command.arguments += ["-f", format.rawValue] }
        command.arguments.append(path)
        // Made for images that could be anybody's: a broken one must not take the host's memory or time.
        command.addressSpace = 2 << 30
        command.cpuSeconds = 20
        job = try Job(command, in: loop, limit: .seconds(30), kind: .image)
    }

    func finish() throws -> DiskImage {
        let modified = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
        var image = DiskImage(
            path: path, format: .iso, virtualSize: ByteCount(UInt64(status.st_size)),
            isBlockDevice: status.st_mode & S_IFMT == S_IFBLK, fileSize: UInt64(status.st_size),
            allocated: UInt64(status.st_blocks) * 512, modified: modified)
        guard let job else { return image }
        let output = try job.finish(.image, "read image", path)
        let info: JSON
        do { info = try JSON(parsing: output) } catch {
            throw Failure(.image, "read image", path, "qemu-img's answer is \(error)")
        }
        try apply(info, to: &image)
        return image
    }

    private func apply(_ info: JSON, to image: inout DiskImage) throws(Failure) {
        let name = info["format"]?.string ?? "unknown"
        // Only a device knows its own size here; for a file qemu-img's word is taken.
        guard let size = info["virtual-size"]?.integer, size > 0 else {
            throw Failure(.image, "use image", path, "it holds no disk")
        }
        guard let format = DiskFormat(rawValue: name), format != .iso else {
            throw Failure(
                .image, "use image", path, "it is a \(name) image, and only qcow2, raw and ISO can be booted",
                remedy: "qemu-img convert -O qcow2 \(path.shellQuoted) disk.qcow2")
        }
        // Either could name any file of the host, which the guest would then read.
        if let backing = info["backing-filename"]?.string {
            throw Failure(
                .image, "use image", path, "it needs another file, '\(backing)', which could be any file of this host",
                remedy: "make it whole with qemu-img convert -O qcow2 \(path.shellQuoted) disk.qcow2")
        }
        let details = info["format-specific"]?["data"]
        if let data = details?["data-file"]?.string {
            throw Failure(
                .image, "use image", path,
                "its data is in another file, '\(data)', which could be any file of this host",
                remedy: "make it whole with qemu-img convert -O qcow2 \(path.shellQuoted) disk.qcow2")
        }
        if info["encrypted"]?.bool == true {
            throw Failure(.image, "use image", path, "it is encrypted", remedy: "decrypt it with qemu-img convert")
        }
        if details?["corrupt"]?.bool == true {
            throw Failure(
                .image, "use image", path, "it is marked corrupt",
                remedy: "try qemu-img check -r all \(path.shellQuoted)")
        }
        image.format = format
        image.virtualSize = ByteCount(UInt64(size))
        if format == .qcow2 { try refuseTruncated() }
        if format == .raw, wanted == nil, !looksBootable {
            throw Failure(
                .image, "use image", path, "it has no boot sector, and is no qcow2 or ISO image",
                remedy: "if it is a disk all the same, say --format raw")
        }
    }

    private var looksBootable: Bool {
        guard firstBytes.count >= 512 else { return false }
        return firstBytes[510] == 0x55 && firstBytes[511] == 0xaa
    }

    /// A download that broke off has its header and lacks the tables, which qemu-img does not look at.
    private func refuseTruncated() throws(Failure) {
        let bigEndian = { (offset: Int, count: Int) in
            firstBytes[offset..<offset + count].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        }
        guard firstBytes.count >= 72, status.st_mode & S_IFMT == S_IFREG else { return }
        let (entries, offset) = (bigEndian(36, 4), bigEndian(40, 8))
        if offset &+ entries * 8 > UInt64(status.st_size) {
            throw Failure(
                .image, "use image", path, "it is cut short: \(status.st_size) bytes, and its tables lie beyond",
                remedy: "fetch or copy it again")
        }
    }

    private static let packed: [(magic: [UInt8], name: String, tool: String)] = [
        ([0x1f, 0x8b], "gzip", "gunzip -k"), ([0xfd, 0x37, 0x7a, 0x58, 0x5a], "xz", "unxz -k"),
        ([0x28, 0xb5, 0x2f, 0xfd], "zstd", "unzstd"), (Array("BZh".utf8), "bzip2", "bunzip2 -k"),
        ([0x50, 0x4b, 0x03, 0x04], "zip", "unzip"), ([0x37, 0x7a, 0xbc, 0xaf], "7z", "7z x"),
        ([0x04, 0x22, 0x4d, 0x18], "lz4", "unlz4"),
    ]

    private static func refuseOthers(_ path: String, _ bytes: [UInt8], _ wanted: DiskFormat?) throws(Failure) {
        guard wanted == nil, let found = packed.first(where: { bytes.starts(with: $0.magic) }) else { return }
        throw Failure(
            .image, "use image", path, "it is compressed (\(found.name))",
            remedy: "unpack it first: \(found.tool) \(path.shellQuoted)")
    }
}
