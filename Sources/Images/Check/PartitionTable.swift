import Values

/// What the partition table of a raw disk says, so that a broken download is told from a disk before it boots.
struct PartitionTable {
    enum Finding: Equatable {
        /// No boot sector at all.
        case none
        /// Its signature and no table that could be used: a hybrid ISO, or a file system on the whole disk.
        case bootSector
        case mbr
        case gpt
        /// What is wrong, in words for the user.
        case broken(String)
    }

    /// Reads a disk of this size from its first 34 KiB, which hold a GPT of either sector size.
    static func find(in head: [UInt8], size: UInt64) -> Finding {
        guard head.count >= 512, head[510] == 0x55, head[511] == 0xaa else { return .none }
        let table = PartitionTable(head: head, size: size)
        let entries = table.entries
        if entries.isEmpty { return .bootSector }
        let finding = entries.contains { $0.type == protective } ? table.checkGPT() : table.checkMBR(entries)
        // A hybrid ISO boots as a CD whatever the table says that it has for USB sticks.
        if case .broken = finding, DiskHead(head).isISO { return .bootSector }
        return finding
    }

    private let head: [UInt8]
    private let size: UInt64

    private static let protective: UInt8 = 0xee
    /// Tools round the last partition up to a cylinder or leave the second GPT header out, and such disks boot.
    private static let tolerance: UInt64 = 1 << 20

    private func littleEndian(_ offset: Int, _ count: Int) -> UInt64 {
        head[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    // MARK: - MBR

    private struct Entry {
        var type: UInt8
        var start: UInt64
        var count: UInt64
    }

    /// None where the bytes are no table: a file system's own boot sector has its program there.
    private var entries: [Entry] {
        let offsets = (0..<4).map { 446 + 16 * $0 }
        guard offsets.allSatisfy({ head[$0] == 0 || head[$0] == 0x80 }), !isFileSystem else { return [] }
        let entries = offsets.map {
            Entry(type: head[$0 + 4], start: littleEndian($0 + 8, 4), count: littleEndian($0 + 12, 4))
        }
        return entries.filter { $0.type != 0 && ($0.count != 0 || $0.type == Self.protective) }
    }

    private var isFileSystem: Bool {
        let marks = [(3, "NTFS    "), (3, "EXFAT   "), (54, "FAT12"), (54, "FAT16"), (82, "FAT32")]
        return marks.contains { head[$0.0...].starts(with: $0.1.utf8) }
    }

    private func checkMBR(_ entries: [Entry]) -> Finding {
        let end = entries.map { ($0.start + $0.count) * 512 }.max() ?? 0
        let startsBeyond = entries.contains { $0.start * 512 >= size }
        return startsBeyond || max(end, Self.tolerance) - Self.tolerance > size ? cutShort(end) : .mbr
    }

    // MARK: - GPT

    private func checkGPT() -> Finding {
        let found = [512, 4096].filter { head.count >= $0 + 512 && head[$0...].starts(with: "EFI PART".utf8) }
        if found.isEmpty {
            return .broken(
                head.count < 1024 ? "it is cut short: it ends before its GPT header" : "its GPT header is missing")
        }
        guard let sector = found.first(where: headerIsSound) else { return .broken("its GPT header is damaged") }
        // A sound checksum says nothing about the numbers: they are the image's, and could be anything.
        let disk = size / UInt64(sector)
        let end = disk + Self.tolerance / UInt64(sector)
        let alternate = littleEndian(sector + 32, 8)
        if alternate >= end { return cutShort(lastSector: alternate, of: sector) }
        guard let entries = gptEntries(sector) else { return .gpt }
        guard Self.crc32(head[entries]) == littleEndian(sector + 88, 4) else {
            return .broken("its GPT's list of partitions is damaged")
        }
        let width = Int(littleEndian(sector + 84, 4))
        for at in stride(from: entries.lowerBound, to: entries.upperBound, by: width)
        where head[at..<at + 16].contains(where: { $0 != 0 }) {
            let (start, last) = (littleEndian(at + 32, 8), littleEndian(at + 40, 8))
            if start >= disk || last >= end { return cutShort(lastSector: max(start, last), of: sector) }
        }
        return .gpt
    }

    private func headerIsSound(_ sector: Int) -> Bool {
        let length = Int(littleEndian(sector + 12, 4))
        guard length >= 92, length <= sector, sector + length <= head.count else { return false }
        var header = Array(head[sector..<sector + length])
        header.replaceSubrange(16..<20, with: [0, 0, 0, 0])
        return Self.crc32(header[...]) == littleEndian(sector + 16, 4) && littleEndian(sector + 24, 8) == 1
    }

    /// Where the list of partitions is, if the head holds all of it.
    private func gptEntries(_ sector: Int) -> Range<Int>? {
        let (first, count) = (littleEndian(sector + 72, 8), littleEndian(sector + 80, 4))
        let width = littleEndian(sector + 84, 4)
        let room = UInt64(head.count)
        guard width >= 128, count > 0, first < room, width <= room, count <= room else { return nil }
        let (start, length) = (first * UInt64(sector), count * width)
        guard start <= room, length <= room - start else { return nil }
        return Int(start)..<Int(start + length)
    }

    // MARK: - Words

    private func cutShort(lastSector: UInt64, of sector: Int) -> Finding {
        // Beyond this, nobody's disk was cut.
        guard lastSector < 1 << 48 else { return .broken("its partition table is damaged") }
        return cutShort((lastSector + 1) * UInt64(sector))
    }

    private func cutShort(_ wanted: UInt64) -> Finding {
        var (much, little) = (ByteCount(wanted).description, ByteCount(size).description)
        if much == little { (much, little) = ("\(wanted) bytes", "\(size)") }
        return .broken("it is cut short: its partition table speaks of \(much) and there are \(little)")
    }

    /// The CRC of GPT, zlib and Ethernet, without a table: it sees a few kilobytes once.
    static func crc32(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        var crc = UInt32.max
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 1 ? 0xedb8_8320 : 0) }
        }
        return UInt64(~crc)
    }
}
