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
}

extension UnpackRequest {
    init(_ request: FetchRequest, folder: String? = nil, excluded: [String] = []) {
        self.init(member: request.member, folder: folder, maxSize: request.maxSize, excluded: excluded)
    }
}

/// Reads a packed file as it comes, and writes the disk that is in it: in a process of its own, with no right to anything
/// but the two files, since it reads what strangers made.
package final class Unpacker {
    private static let outputDescriptor: Int32 = FollowedFile.descriptor + 1
    private let request: UnpackRequest
    private let file = PackedFile()
    private var content: any ByteStream
    private var isPacked = false
    private let output = Descriptor(Unpacker.outputDescriptor)
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
        content = file
        try Failure.refuse(cload_archive(), "libarchive", package: "libarchive13")
    }

    private func failed(_ cause: String, remedy: String? = nil, kind: FailureKind = .image) -> Failure {
        // The subject is known to whom this process works for.
        Failure(kind, "unpack", "", cause, remedy: remedy)
    }

    /// How often something can be packed: a disk, in a tar, packed, and once more on its way.
    private static let mostLayers = 3

    private func unpack() throws {
        var needsSeeking = false
        for layer in 0...Unpacker.mostLayers {
            let opening = try Opening(of: content)
            content = opening
            let packer = DiskHead(opening.head).packer
            // Its list of contents is at the end of the file.
            needsSeeking = packer == "7z" && layer == 0
            guard let stream = try packer.flatMap({ try unpacked(opening, packer: $0) }) else { break }
            if layer == Unpacker.mostLayers {
                throw failed("it is packed more than \(layer) times", remedy: "unpack it first")
            }
            content = stream
            isPacked = true
        }
        if needsSeeking {
            try file.waitForEnd()
            content = file
        }
        var result: Int32 = 0
        let context = Unmanaged.passUnretained(self).toOpaque()
        let seeker: carchive_seeker? =
            needsSeeking ? { Unmanaged<Unpacker>.fromOpaque($1!).takeUnretainedValue().file.seek($2, $3) } : nil
        let opened = carchive_open(
            context, { Unmanaged<Unpacker>.fromOpaque($1!).takeUnretainedValue().read($2!) }, seeker, &result)
        guard let archive = opened else { throw failed("out of memory") }
        defer { carchive_free(archive) }
        if result != ARCHIVE_OK { throw problem(archive) }
        try unpack(archive)
        // Of what is looked for in a container image the digests are known.
        if isPacked, !request.isExact { try readRest() }
    }

    /// nil where it is no stream, but an archive.
    private func unpacked(_ stream: any ByteStream, packer: String) throws -> (any ByteStream)? {
        if packer == "gzip" { return try GzipStream(stream) }
        return PackedStream.packers[packer] == nil ? nil : PackedStream(stream, packer: packer)
    }

    private func problem(_ archive: OpaquePointer) -> Failure {
        if let readFailure { return failed(readFailure, remedy: "fetch or copy it again") }
        let words = carchive_error(archive).map { String(cString: $0) } ?? "it is broken"
        return failed("it is broken: \(words)", remedy: "fetch or copy it again")
    }

    private func read(_ bytes: UnsafeMutablePointer<UnsafeRawPointer?>) -> Int {
        do {
            let content = try content.next()
            bytes.pointee = content.baseAddress
            return content.count
        } catch {
            readFailure = (error as? Failure)?.cause ?? "it can't be read: \(error)"
            return -1
        }
    }

    /// What an archive says to be its end is before the end of the stream, where checksums are.
    private func readRest() throws {
        var length: UInt64 = 0
        while case let bytes = try content.next(), !bytes.isEmpty {
            length += UInt64(bytes.count)
            try checkRatio(length)
        }
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
        guard let most = request.maxSize else { return try checkRatio(size) }
        if size > most {
            throw failed("it unpacks to more than \(ByteCount(most))", remedy: "allow more with --max-size")
        }
    }

    private func checkRatio(_ size: UInt64) throws(Failure) {
        let packed = max(file.place, 1)
        guard request.maxSize == nil,
            size > Unpacker.largest || size > Unpacker.harmless && size > packed * Unpacker.highestRatio
        else { return }
        throw failed(
            "it unpacks to more than \(ByteCount(size)), \(size / packed) times its own size",
            remedy: "if that is what it is, allow it with --max-size")
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
