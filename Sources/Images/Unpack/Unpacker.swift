import CLoad
import Glibc
import Model
import System
import Values

/// What the unpacking process is asked for.
package struct UnpackRequest: Codable {
    /// Which file of an archive; without it the one disk in it.
    var member: String?
    /// The name is the whole name, not the last part of one.
    var isExact = false
    /// Only what is in this folder, and nothing at all will do.
    var folder: String?
    var maxSize: UInt64?
    /// What upper layers of a container image took away.
    var excluded: [String] = []
    var isGzip = false
    /// Its list of contents is at the end of the file.
    var needsSeeking = false
}

extension UnpackRequest {
    init(_ request: FetchRequest, _ head: DiskHead, folder: String? = nil, excluded: [String] = []) {
        self.init(
            member: request.member, folder: folder, maxSize: request.maxSize, excluded: excluded,
            isGzip: head.packer == "gzip", needsSeeking: head.packer == "7z")
    }
}

/// Reads a packed file as it comes, and writes the disk that is in it: in a process of its own, with no right to anything
/// but the two files, since it reads what strangers made.
package final class Unpacker {
    private static let outputDescriptor: Int32 = FollowedFile.descriptor + 1
    private let request: UnpackRequest
    private var input = FollowedFile()
    private let output = Descriptor(Unpacker.outputDescriptor)
    private var place: UInt64 = 0
    private var inputLength: UInt64 = 0
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 4096)
    private var gzip: Gzip?
    private var readFailure: String?
    private var told: UInt64 = 0

    package static func run(_ operand: String) throws -> Int32 {
        do {
            let request = try JSON(parsing: operand).decode(UnpackRequest.self)
            try Unpacker(request).unpack()
        } catch let failure as Failure {
            sayMessage(["failed": try JSON(encoding: failure)])
        }
        return 0
    }

    private init(_ request: UnpackRequest) throws(Failure) {
        self.request = request
        try Failure.refuse(cload_archive(), "libarchive", package: "libarchive13")
    }

    private func failed(_ cause: String, remedy: String? = nil, kind: FailureKind = .image) -> Failure {
        // The subject is known to whom this process works for.
        Failure(kind, "unpack", "", cause, remedy: remedy)
    }

    private func unpack() throws {
        if request.needsSeeking { inputLength = try input.waitForEnd() }
        if request.isGzip { gzip = try Gzip() }
        var result: Int32 = 0
        let context = Unmanaged.passUnretained(self).toOpaque()
        let seeker: carchive_seeker? =
            request.needsSeeking
            ? { Unmanaged<Unpacker>.fromOpaque($1!).takeUnretainedValue().seek($2, $3) } : nil
        let opened = carchive_open(
            context, { Unmanaged<Unpacker>.fromOpaque($1!).takeUnretainedValue().read($2!) }, seeker, &result)
        guard let archive = opened else { throw failed("out of memory") }
        defer { carchive_free(archive) }
        if result != ARCHIVE_OK { throw problem(archive) }
        try unpack(archive)
    }

    private func problem(_ archive: OpaquePointer) -> Failure {
        if let readFailure { return failed(readFailure, remedy: "fetch or copy it again") }
        let words = carchive_error(archive).map { String(cString: $0) } ?? "it is broken"
        return failed("it is broken: \(words)", remedy: "fetch or copy it again")
    }

    // MARK: - What libarchive asks for

    private func read(_ bytes: UnsafeMutablePointer<UnsafeRawPointer?>) -> Int {
        do {
            let content = try gzip?.read(readPacked) ?? readPacked()
            bytes.pointee = content.baseAddress
            return content.count
        } catch {
            readFailure = (error as? Failure)?.cause ?? "it can't be read: \(error)"
            return -1
        }
    }

    private func readPacked() throws(Errno) -> UnsafeRawBufferPointer {
        let count = try input.read(at: place, into: buffer)
        place += UInt64(count)
        return UnsafeRawBufferPointer(rebasing: buffer[..<count])
    }

    private func seek(_ offset: Int64, _ whence: Int32) -> Int64 {
        let base: UInt64 = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? place : inputLength
        let wanted = Int64(base) &+ offset
        guard wanted >= 0, wanted <= Int64(inputLength) else { return Int64(ARCHIVE_FATAL) }
        place = UInt64(wanted)
        return wanted
    }

    // MARK: - Finding the disk

    private static let mostMembers = 100_000

    private func unpack(_ archive: OpaquePointer) throws {
        var disks: [String] = []
        var others: [String] = []
        var count = 0
        while true {
            var name: UnsafePointer<CChar>?
            var size: Int64 = -1
            var isFile = false
            let result = carchive_next(archive, &name, &size, &isFile)
            if result == ARCHIVE_EOF { break }
            if result != ARCHIVE_OK { throw problem(archive) }
            count += 1
            if count > Unpacker.mostMembers { throw failed("it holds more than \(Unpacker.mostMembers) files") }
            let isSingle = carchive_is_single(archive)
            guard isFile || isSingle else { continue }
            let member = name.map { String(cString: $0) } ?? "?"
            if isSingle || request.member.map({ matches(member, $0) }) == true {
                try extract(archive, head: try readHead(archive), size: size)
                if isSingle, !request.isGzip { try checkRest(from: carchive_consumed(archive)) }
                disks = [member]
                break
            }
            if request.member != nil {
                others.append(member)
                continue
            }
            if let folder = request.folder {
                let plain = Unpacker.plain(member)
                if !plain.hasPrefix(folder + "/") || request.excluded.contains(plain) { continue }
                if let gone = Unpacker.removal(member) {
                    sayMessage(["removed": .string(gone)])
                    continue
                }
            }
            let head = try readHead(archive)
            guard request.folder != nil || DiskHead(head.bytes).isDisk || Unpacker.hasNameOfDisk(member) else {
                others.append(member)
                continue
            }
            disks.append(member)
            if disks.count == 1 { try extract(archive, head: head, size: size) }
        }
        let known = { (names: [String]) in names.prefix(8).joined(separator: ", ") + (names.count > 8 ? ", …" : "") }
        guard let disk = disks.first else {
            if request.folder != nil { return }
            let all = others.isEmpty ? "nothing" : known(others)
            throw request.member.map {
                failed("it holds no '\($0)', but \(all)", kind: request.isExact ? .noMember : .image)
            }
                ?? failed("it holds no disk, but \(all)", remedy: "if one of them is a disk, name it with --member")
        }
        if disks.count > 1 {
            throw failed("it holds \(disks.count) disks: \(known(disks))", remedy: "choose one with --member")
        }
        sayMessage(["unpacked": .string(disk)])
    }

    /// What follows the last of a file's streams is padding, or what was one of them before it was damaged.
    private func checkRest(from end: Int64) throws {
        var at = UInt64(max(0, end))
        while case let count = try input.read(at: at, into: buffer), count > 0 {
            guard UnsafeRawBufferPointer(rebasing: buffer[..<count]).allSatisfy({ $0 == 0 }) else {
                throw failed(
                    "it is broken: from byte \(end) on it is nothing that is packed so",
                    remedy: "fetch or copy it again")
            }
            at += UInt64(count)
        }
    }

    private func matches(_ member: String, _ wanted: String) -> Bool {
        request.isExact ? Unpacker.plain(member) == Unpacker.plain(wanted) : wanted.means(member: member)
    }

    private static func plain(_ name: String) -> String {
        name.hasPrefix("./") ? String(name.dropFirst(2)) : name.hasPrefix("/") ? String(name.dropFirst()) : name
    }

    /// What a layer takes away of those below, as `disk/.wh.name`; all of the folder ends in a slash.
    private static func removal(_ member: String) -> String? {
        let parts = plain(member).split(separator: "/").map(String.init)
        guard let last = parts.last, last.hasPrefix(".wh.") else { return nil }
        let folder = parts.dropLast().joined(separator: "/") + "/"
        return last == ".wh..wh..opq" ? folder : folder + last.dropFirst(4)
    }

    private static func hasNameOfDisk(_ name: String) -> Bool {
        let suffixes = [".qcow2", ".qcow", ".img", ".raw", ".vmdk", ".vhd", ".vhdx", ".vdi", ".hdd", ".hds", ".iso"]
        return suffixes.contains(where: name.lowercased().hasSuffix)
    }

    // MARK: - Writing it

    /// The first blocks of a file.
    private struct Head {
        var blocks: [(bytes: [UInt8], offset: UInt64)] = []
        /// Where the next block begins.
        var length: UInt64 = 0
        var isAll = false

        /// Holes of a sparse member are zeros.
        var bytes: [UInt8] {
            var bytes: [UInt8] = []
            for block in blocks where block.offset < UInt64(DiskHead.size) {
                bytes += [UInt8](repeating: 0, count: max(0, Int(block.offset) - bytes.count)) + block.bytes
            }
            return bytes
        }
    }

    /// Enough of the file to see what it is.
    private func readHead(_ archive: OpaquePointer) throws -> Head {
        var head = Head()
        var count = 0
        // Blocks of a sparse member can overlap, or be empty.
        while head.length < UInt64(DiskHead.size), count < DiskHead.size {
            guard let (block, offset) = try nextBlock(archive) else {
                head.isAll = true
                break
            }
            head.length = max(head.length, offset + UInt64(block.count))
            count += block.count
            if !block.isEmpty { head.blocks.append((Array(block), offset)) }
        }
        return head
    }

    private func nextBlock(_ archive: OpaquePointer) throws -> (UnsafeRawBufferPointer, UInt64)? {
        var bytes: UnsafeRawPointer?
        var size = 0
        var offset: Int64 = 0
        let result = carchive_block(archive, &bytes, &size, &offset)
        if result == ARCHIVE_EOF { return nil }
        // A wrong checksum in a zip or 7z is only a warning to it.
        if result != ARCHIVE_OK { throw problem(archive) }
        guard offset >= 0, offset < Int64.max / 2 else { throw failed("it is broken: a block at \(offset)") }
        try checkSize(UInt64(offset) + UInt64(size))
        return (UnsafeRawBufferPointer(start: bytes, count: size), UInt64(offset))
    }

    private func extract(_ archive: OpaquePointer, head: Head, size: Int64) throws {
        var written: UInt64 = 0
        for block in head.blocks {
            try block.bytes.withUnsafeBytes { try write($0, at: block.offset) }
            written = max(written, block.offset + UInt64(block.bytes.count))
        }
        if !head.isAll {
            while let (block, offset) = try nextBlock(archive) {
                // Its digest has been taken by now.
                if offset < told { throw failed("it is broken: a part of it comes twice") }
                try write(block, at: offset)
                written = max(written, offset + UInt64(block.count))
                if written >= told + (8 << 20) { try tell(written) }
            }
        }
        // A hole at its end has no block.
        let length = max(written, head.length, UInt64(max(0, size)))
        try checkSize(length)
        try tell(length)
    }

    /// So much can be read: the file is so long, whether or not it ends with a hole.
    private func tell(_ length: UInt64) throws(Failure) {
        do throws(Errno) { try Errno.check { ftruncate(output.raw, off_t(length)) } } catch { throw full(error) }
        told = length
        sayMessage(["written": .integer(Int64(length))])
    }

    private func full(_ error: Errno) -> Failure {
        Failure(.image, "unpack", "", error, remedy: "choose another place with --cache")
    }

    /// A few bytes can stand for more than any disk holds.
    private static let largest: UInt64 = 1 << 40
    private static let highestRatio: UInt64 = 1000
    private static let harmless: UInt64 = 1 << 30

    private func checkSize(_ size: UInt64) throws(Failure) {
        if let most = request.maxSize {
            if size > most {
                throw failed("it unpacks to more than \(ByteCount(most))", remedy: "allow more with --max-size")
            }
        } else if size > Unpacker.largest
            || size > Unpacker.harmless && size > max(place, 1) * Unpacker.highestRatio
        {
            throw failed(
                "it unpacks to more than \(ByteCount(size)), \(size / max(place, 1)) times its own size",
                remedy: "if that is what it is, allow it with --max-size")
        }
    }

    /// Zeros in this many bytes on such a boundary become a hole.
    private static let grain: UInt64 = 32 << 10

    private func write(_ block: UnsafeRawBufferPointer, at offset: UInt64) throws(Failure) {
        var pending = 0
        var start = 0
        while start < block.count {
            let end = min(block.count, Int(((offset + UInt64(start)) / Unpacker.grain + 1) * Unpacker.grain - offset))
            let bytes = block.baseAddress! + start
            let isZero =
                bytes.load(as: UInt8.self) == 0 && (end - start == 1 || memcmp(bytes, bytes + 1, end - start - 1) == 0)
            if isZero {
                try put(block, pending..<start, offset)
                pending = end
            }
            start = end
        }
        try put(block, pending..<block.count, offset)
    }

    private func put(_ block: UnsafeRawBufferPointer, _ range: Range<Int>, _ offset: UInt64) throws(Failure) {
        let bytes = UnsafeRawBufferPointer(rebasing: block[range])
        do throws(Errno) { try output.write(bytes, at: offset + UInt64(range.lowerBound)) } catch { throw full(error) }
    }
}

/// What is in a gzip file, its checksums looked at.
private final class Gzip {
    private let gzip: OpaquePointer
    private let output = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 4096)
    private var packed = UnsafeRawBufferPointer(start: nil, count: 0)
    private var isAtEnd = false

    init() throws(Failure) {
        try Failure.refuse(cload_zlib(), "zlib", package: "zlib1g")
        guard let made = cgzip_open() else { throw Failure(.image, "unpack", "", "out of memory") }
        gzip = made
    }

    deinit {
        cgzip_free(gzip)
        output.deallocate()
    }

    /// Some of it; nothing at its end.
    func read(_ more: () throws(Errno) -> UnsafeRawBufferPointer) throws -> UnsafeRawBufferPointer {
        while true {
            if packed.isEmpty {
                packed = try more()
                if packed.isEmpty {
                    if isAtEnd { return packed }
                    throw Failure(.image, "unpack", "", "it is cut short")
                }
            }
            var (used, made) = (packed.count, output.count)
            let result = cgzip_read(gzip, packed.baseAddress, &used, output.baseAddress, &made)
            isAtEnd = result == Int32(CGZIP_END)
            if result == Int32(CGZIP_BROKEN) {
                throw Failure(.image, "unpack", "", "it is broken: its checksum or its structure is wrong")
            }
            if isAtEnd, used == 0 {
                try checkPadding(more)
                return UnsafeRawBufferPointer(start: nil, count: 0)
            }
            packed = UnsafeRawBufferPointer(rebasing: packed[used...])
            if made > 0 { return UnsafeRawBufferPointer(rebasing: output[..<made]) }
        }
    }

    /// Behind the last member there may be zeros; anything else was a member before it was damaged.
    private func checkPadding(_ more: () throws(Errno) -> UnsafeRawBufferPointer) throws {
        while !packed.isEmpty {
            guard packed.allSatisfy({ $0 == 0 }) else {
                throw Failure(.image, "unpack", "", "it is broken: what follows its end is no gzip")
            }
            packed = try more()
        }
    }
}
