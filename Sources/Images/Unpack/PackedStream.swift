import CLoad
import Glibc
import Model
import System
import Values

/// Bytes that come one block after the other; each block is there until the next one is asked for.
protocol ByteStream: AnyObject {
    /// Empty at the end.
    func next() throws -> UnsafeRawBufferPointer
}

/// The packed file, read as it comes.
final class PackedFile: ByteStream {
    private var input = FollowedFile()
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 4096)
    private(set) var place: UInt64 = 0
    private var length: UInt64 = 0

    deinit { buffer.deallocate() }

    func next() throws -> UnsafeRawBufferPointer {
        let count = try input.read(at: place, into: buffer)
        place += UInt64(count)
        return UnsafeRawBufferPointer(rebasing: buffer[..<count])
    }

    /// From then on it can be read anywhere, and is read from the beginning.
    func waitForEnd() throws {
        length = try input.waitForEnd()
        place = 0
    }

    func seek(_ offset: Int64, _ whence: Int32) -> Int64 {
        let base: UInt64 = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? place : length
        let wanted = Int64(base) &+ offset
        guard wanted >= 0, wanted <= Int64(length) else { return Int64(ARCHIVE_FATAL) }
        place = UInt64(wanted)
        return wanted
    }
}

/// A stream whose first bytes were looked at, all of which are still to come.
final class Opening: ByteStream {
    private let first: UnsafeMutableRawBufferPointer
    private let stream: any ByteStream
    private var isGiven = false

    /// Enough for what tells packed streams from one another.
    private static let least = 16

    init(of stream: any ByteStream, after bytes: [UInt8] = []) throws {
        self.stream = stream
        var bytes = bytes
        while bytes.count < Opening.least, case let block = try stream.next(), !block.isEmpty { bytes += block }
        first = .allocate(byteCount: bytes.count, alignment: 16)
        first.copyBytes(from: bytes)
    }

    deinit { first.deallocate() }

    var head: [UInt8] { Array(first.prefix(Opening.least)) }

    func next() throws -> UnsafeRawBufferPointer {
        if isGiven || first.isEmpty { return try stream.next() }
        isGiven = true
        return UnsafeRawBufferPointer(first)
    }

    /// Behind the end of what was packed there may be zeros; anything else was packed before it was damaged.
    func checkPadding(from place: UInt64) throws {
        while case let bytes = try next(), !bytes.isEmpty {
            guard bytes.allSatisfy({ $0 == 0 }) else {
                throw Failure.broken("from byte \(place) on it is nothing that is packed so")
            }
        }
    }
}

/// What is in a file that libarchive unpacks: of one stream, or of several behind one another, to the very end of it.
final class PackedStream: ByteStream {
    static let packers = [
        "bzip2": ARCHIVE_FILTER_BZIP2, "xz": ARCHIVE_FILTER_XZ, "lzma": ARCHIVE_FILTER_LZMA, "lz4": ARCHIVE_FILTER_LZ4,
        "zstd": ARCHIVE_FILTER_ZSTD,
    ]

    private let packer: String
    private var input: any ByteStream
    private var archive: OpaquePointer?
    /// Where this stream begins, and how much of it libarchive was given.
    private var start: UInt64 = 0
    private var given: UInt64 = 0
    /// What it was given last, and the end of what came before.
    private var block = UnsafeRawBufferPointer(start: nil, count: 0)
    private var before: [UInt8] = []
    private var askedBeyondEnd = false
    private var isOver = false
    private var failure: (any Error)?

    init(_ input: any ByteStream, packer: String) {
        self.input = input
        self.packer = packer
    }

    deinit { carchive_free(archive) }

    func next() throws -> UnsafeRawBufferPointer {
        while !isOver {
            if try archive != nil || begin() {
                var (bytes, size, offset): (UnsafeRawPointer?, Int, Int64) = (nil, 0, 0)
                let result = carchive_block(archive, &bytes, &size, &offset)
                if result == ARCHIVE_OK, size == 0 { continue }
                if result == ARCHIVE_OK { return UnsafeRawBufferPointer(start: bytes, count: size) }
                if result != ARCHIVE_EOF { throw problem }
            }
            try goOn()
        }
        return UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// false where there is nothing in the stream.
    private func begin() throws -> Bool {
        guard let filter = PackedStream.packers[packer] else { return false }
        var result: Int32 = 0
        (given, before, askedBeyondEnd) = (0, [], false)
        archive = carchive_unpack(
            Unmanaged.passUnretained(self).toOpaque(),
            { Unmanaged<PackedStream>.fromOpaque($1!).takeUnretainedValue().give($2!) }, filter, &result)
        if archive == nil { throw Failure.broken("out of memory") }
        if result != ARCHIVE_OK { throw problem }
        var (name, size, isFile): (UnsafePointer<CChar>?, Int64, Bool) = (nil, 0, false)
        result = carchive_next(archive, &name, &size, &isFile)
        if result != ARCHIVE_OK, result != ARCHIVE_EOF { throw problem }
        return result == ARCHIVE_OK
    }

    private var problem: any Error {
        failure ?? Failure.broken(carchive_error(archive).map { String(cString: $0) } ?? "it can't be unpacked")
    }

    /// As much as a look at what follows can have left of an earlier block.
    private static let longestLook = 64

    private func give(_ bytes: UnsafeMutablePointer<UnsafeRawPointer?>) -> Int {
        do {
            before = (before + block.suffix(PackedStream.longestLook)).suffix(PackedStream.longestLook)
            block = UnsafeRawBufferPointer(start: nil, count: 0)
            block = try input.next()
        } catch {
            failure = error
            return -1
        }
        given += UInt64(block.count)
        if block.isEmpty { askedBeyondEnd = true }
        bytes.pointee = block.baseAddress
        return block.count
    }

    /// libarchive takes the stream for ended: by its own end, or by something behind it which is no other stream.
    private func goOn() throws {
        var used = UInt64(carchive_consumed(archive))
        // Of what follows an lz4 stream it has swallowed the first word, if there was one.
        if packer == "lz4", !askedBeyondEnd, !PackedStream.endsEmpty(try given(around: used).used) {
            used -= min(used, 4)
        }
        let rest = try given(around: used).left
        carchive_free(archive)
        archive = nil
        start += used
        (block, before) = (UnsafeRawBufferPointer(start: nil, count: 0), [])
        let opening = try Opening(of: input, after: rest)
        if DiskHead(opening.head).packer == packer, used > 0 {
            input = opening
        } else {
            isOver = true
            try opening.checkPadding(from: start)
        }
    }

    /// The end of what libarchive was given: what it has used of it, and what it has not.
    private func given(around place: UInt64) throws(Failure) -> (used: [UInt8], left: [UInt8]) {
        let left = Int(given - min(given, place))
        let there = before + block
        guard left <= there.count else { throw Failure.broken("its end is not where it should be") }
        return (Array(there.dropLast(left)), Array(there.suffix(left)))
    }

    /// A frame without content, which libarchive takes for the end: by its own end, or by the checksum of nothing.
    private static func endsEmpty(_ bytes: [UInt8]) -> Bool {
        [[0, 0, 0, 0], [0x05, 0x5d, 0xcc, 0x02]].contains(bytes.suffix(4))
    }
}

/// What is in a gzip file, its checksums looked at.
final class GzipStream: ByteStream {
    private let input: any ByteStream
    private let gzip: OpaquePointer
    private let output = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 4096)
    private var packed = UnsafeRawBufferPointer(start: nil, count: 0)
    private var place: UInt64 = 0
    private var isAtEnd = false
    private var isOver = false

    init(_ input: any ByteStream) throws(Failure) {
        try Failure.refuse(cload_zlib(), "zlib", package: "zlib1g")
        guard let made = cgzip_open() else { throw Failure(.image, "unpack", "", "out of memory") }
        gzip = made
        self.input = input
    }

    deinit {
        cgzip_free(gzip)
        output.deallocate()
    }

    func next() throws -> UnsafeRawBufferPointer {
        while !isOver {
            if packed.isEmpty {
                packed = try input.next()
                if packed.isEmpty {
                    if isAtEnd { break }
                    throw Failure(.image, "unpack", "", "it is cut short")
                }
            }
            var (used, made) = (packed.count, output.count)
            let result = cgzip_read(gzip, packed.baseAddress, &used, output.baseAddress, &made)
            isAtEnd = result == Int32(CGZIP_END)
            if result == Int32(CGZIP_BROKEN) { throw Failure.broken("its checksum or its structure is wrong") }
            if isAtEnd, used == 0 {
                isOver = true
                try Opening(of: input, after: Array(packed)).checkPadding(from: place)
                break
            }
            place += UInt64(used)
            packed = UnsafeRawBufferPointer(rebasing: packed[used...])
            if made > 0 { return UnsafeRawBufferPointer(rebasing: output[..<made]) }
        }
        return UnsafeRawBufferPointer(start: nil, count: 0)
    }
}

extension Failure {
    fileprivate static func broken(_ words: String) -> Failure {
        Failure(.image, "unpack", "", "it is broken: \(words)", remedy: "fetch or copy it again")
    }
}
