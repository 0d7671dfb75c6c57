import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import System
@testable import TestSupport
@testable import Values

@Suite struct PartitionTableTests {
    private static let size: UInt64 = 64 << 20

    private func put(_ value: UInt64, _ count: Int, at offset: Int, in bytes: inout [UInt8]) {
        for index in 0..<count { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
    }

    private func mbr(_ entries: (type: UInt8, start: UInt64, count: UInt64)...) -> [UInt8] {
        var head = [UInt8](repeating: 0, count: 34 * 1024)
        (head[510], head[511]) = (0x55, 0xaa)
        for (index, entry) in entries.enumerated() {
            let at = 446 + 16 * index
            head[at] = index == 0 ? 0x80 : 0
            head[at + 4] = entry.type
            put(entry.start, 4, at: at + 8, in: &head)
            put(entry.count, 4, at: at + 12, in: &head)
        }
        return head
    }

    /// With one partition, as large as the disk allows.
    private func gpt(
        sector: Int = 512, size: UInt64 = size, alternate: UInt64? = nil, last: UInt64? = nil,
        entriesAt: UInt64 = 2, change: (inout [UInt8]) -> Void = { _ in }
    ) -> [UInt8] {
        var head = mbr((type: 0xee, start: 1, count: 0xffff_ffff))
        let sectors = size / UInt64(sector)
        head.replaceSubrange(sector..<sector + 8, with: Array("EFI PART".utf8))
        for (offset, value) in [
            (24, 1), (32, alternate ?? sectors - 1), (40, 34), (48, sectors - 34), (72, entriesAt),
        ] { put(value, 8, at: sector + offset, in: &head) }
        for (offset, value) in [(8, UInt64(0x10000)), (12, 92), (80, 128), (84, 128)] {
            put(value, 4, at: sector + offset, in: &head)
        }
        let entries = 2 * sector
        head[entries] = 0xaf
        put(2048, 8, at: entries + 32, in: &head)
        put(last ?? sectors - 34, 8, at: entries + 40, in: &head)
        put(PartitionTable.crc32(head[entries..<entries + 128 * 128]), 4, at: sector + 88, in: &head)
        change(&head)
        put(0, 4, at: sector + 16, in: &head)
        put(PartitionTable.crc32(head[sector..<sector + 92]), 4, at: sector + 16, in: &head)
        return head
    }

    private func find(_ head: [UInt8], _ size: UInt64 = size) -> PartitionTable.Finding {
        PartitionTable.find(in: head, size: size)
    }

    @Test func computesCRC32() {
        #expect(PartitionTable.crc32(Array("123456789".utf8)[...]) == 0xcbf4_3926)
        #expect(PartitionTable.crc32([]) == 0)
    }

    @Test func tellsDisksFromOtherFiles() {
        #expect(find([]) == .none)
        #expect(find(Array("hello\n".utf8), 6) == .none)
        #expect(find([UInt8](repeating: 0, count: 34 * 1024)) == .none)
        #expect(find(mbr()) == .bootSector)
        #expect(find(Array(mbr().prefix(512)), 512) == .bootSector)
        #expect(find(mbr((type: 0x83, start: 2048, count: 100_000))) == .mbr)
    }

    /// A file system on the whole disk has its program, or anything, where a table would be.
    @Test func knowsFileSystemsWithoutATable() {
        var program = mbr((type: 0x83, start: 0xffff_0000, count: 7))
        program[446] = 0x42
        #expect(find(program) == .bootSector)
        var fat = mbr((type: 0x74, start: 0xffff_0000, count: 7))
        fat.replaceSubrange(82..<87, with: Array("FAT32".utf8))
        #expect(find(fat) == .bootSector)
    }

    @Test func seesThatPartitionsLieBeyondTheEnd() {
        let sectors = Self.size / 512
        #expect(find(mbr((type: 0x83, start: 2048, count: sectors))) == .mbr)
        #expect(find(mbr((type: 0x83, start: 2048, count: sectors + 2048))) != .mbr)
        #expect(find(mbr((type: 0x83, start: sectors, count: 1))) != .mbr)
        let large = mbr((type: 0x83, start: 0, count: 10 << 21))
        #expect(
            find(large, 3_435_973_837)
                == .broken("it is cut short: its partition table speaks of 10G and there are 3.2G"))
        // Sizes that round to the same words.
        let little = mbr((type: 0x83, start: 0, count: (10 << 21) + 4096))
        let words = "its partition table speaks of 10739515392 bytes and there are 10737418240"
        #expect(find(little, 10 << 30) == .broken("it is cut short: \(words)"))
        #expect(find(mbr((type: 0x83, start: 0xffff_ffff, count: 0xffff_ffff)), .max) == .mbr)
    }

    /// Its table speaks of the size that it has on a stick; it boots as a CD all the same.
    @Test func leavesHybridISOsAlone() {
        var iso = mbr((type: 0x17, start: 0, count: 1 << 30))
        #expect(find(iso) != .bootSector)
        iso.replaceSubrange(32769..<32774, with: Array("CD001".utf8))
        #expect(find(iso) == .bootSector)
        iso = mbr((type: 0x17, start: 0, count: Self.size / 512 + 2000))
        #expect(find(iso) == .mbr)
    }

    @Test func checksGPTs() {
        #expect(find(gpt()) == .gpt)
        #expect(find(gpt(sector: 4096)) == .gpt)
        #expect(find(mbr((type: 0xee, start: 1, count: 0))) == .broken("its GPT header is missing"))
        #expect(
            find(Array(gpt().prefix(700)), 700) == .broken("it is cut short: it ends before its GPT header"))
        var damaged = gpt()
        damaged[512 + 60] ^= 1
        #expect(find(damaged) == .broken("its GPT header is damaged"))
        damaged = gpt()
        damaged[1024 + 56] ^= 1
        #expect(find(damaged) == .broken("its GPT's list of partitions is damaged"))
        // The wrong sector: a header that says of itself that it is another.
        #expect(find(gpt { self.put(2, 8, at: 512 + 24, in: &$0) }) == .broken("its GPT header is damaged"))
        #expect(find(gpt { self.put(8000, 4, at: 512 + 12, in: &$0) }) == .broken("its GPT header is damaged"))
    }

    @Test func seesThatAGPTDiskIsCutShort() {
        let whole = gpt(size: 10 << 30)
        #expect(find(whole, 10 << 30) == .gpt)
        #expect(
            find(whole, 3_435_973_837)
                == .broken("it is cut short: its partition table speaks of 10G and there are 3.2G"))
        #expect(find(gpt(sector: 4096, size: 10 << 30)) != .gpt)
        // Some tools write no second header, and the file ends where it would be.
        #expect(find(gpt(alternate: Self.size / 512 + 32)) == .gpt)
        #expect(find(gpt(last: Self.size / 512 + 4096)) != .gpt)
        for number: UInt64 in [.max, .max - 1, 1 << 63, 1 << 48] {
            #expect(find(gpt(alternate: number)) == .broken("its partition table is damaged"))
            #expect(find(gpt(last: number)) == .broken("its partition table is damaged"))
        }
    }

    /// Sound checksums around numbers that are not.
    @Test func boundsWhatAHeaderAsksFor() {
        #expect(find(gpt(entriesAt: .max)) == .gpt)
        #expect(find(gpt(entriesAt: 60)) == .gpt)
        for (offset, value) in [(80, UInt64(0xffff_ffff)), (84, 0xffff_ffff), (84, 0), (84, 1), (80, 0)] {
            #expect(find(gpt { self.put(value, 4, at: 512 + offset, in: &$0) }) == .gpt)
        }
    }

    @Test func mutatedTablesNeverCrash() {
        var random = RandomBytes(seed: 11)
        let seeds = [gpt(), gpt(sector: 4096), mbr((type: 0x83, start: 2048, count: 100_000))]
        let sizes: [UInt64] = [0, 512, Self.size, .max]
        for round in 0..<300 {
            // The changes come before the checksum, or none would get past it.
            let sector = round % 2 == 0 ? 512 : 4096
            var bytes = seeds[round % 3]
            if round % 3 < 2 {
                bytes = gpt(sector: sector) { head in
                    for _ in 0...random.next(3) { head[sector + 20 + random.next(72)] = UInt8(random.next(256)) }
                }
            }
            if round % 5 == 0 { bytes[446 + random.next(66)] = UInt8(random.next(256)) }
            if round % 7 == 0 { bytes = Array(bytes.prefix(random.next(bytes.count))) }
            _ = find(bytes, sizes[random.next(sizes.count)])
        }
    }
}
