/// What the first bytes of a file say that it is.
package struct DiskHead {
    /// Enough for the volume descriptor of an ISO.
    static let size = 34 * 1024

    let bytes: [UInt8]

    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    private func has(_ magic: some Sequence<UInt8>, at place: Int = 0) -> Bool {
        bytes.dropFirst(place).starts(with: magic)
    }

    var isISO: Bool { has("CD001".utf8, at: 32769) }

    private static let magics: [(place: Int, magic: [UInt8])] = [
        (0, Array("QFI".utf8) + [0xfb]), (0, Array("KDMV".utf8)), (0, Array("COWD".utf8)), (0, Array("vhdxfile".utf8)),
        (0, Array("conectix".utf8)), (64, [0x7f, 0x10, 0xda, 0xbe]), (0, Array("WithoutFreeSpace".utf8)),
        (0, Array("WithouFreSpacExt".utf8)),
    ]

    /// Some format that is for disks.
    var hasFormat: Bool { isISO || Self.magics.contains { has($0.magic, at: $0.place) } }

    /// A format, or a boot sector.
    var isDisk: Bool { hasFormat || has([0x55, 0xaa], at: 510) }

    /// It names the files that have the data, which could be any: in words, or in a VMDK without data of its own.
    var isDescriptor: Bool {
        has("# Disk DescriptorFile".utf8) || has("KDMV".utf8) && has([UInt8](repeating: 0, count: 8), at: 12)
    }

    /// qcow2 with its data in another file, as a bit of its header says.
    var hasExternalData: Bool {
        guard has(Array("QFI".utf8) + [0xfb]), bytes.count >= 80, bytes[7] >= 3 else { return false }
        return bytes[79] & 4 != 0
    }

    // MARK: - Packed

    private static let packers: [(place: Int, magic: [UInt8], name: String)] = [
        (0, [0x1f, 0x8b], "gzip"), (0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], "xz"), (0, [0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (0, Array("BZh".utf8), "bzip2"), (0, [0x50, 0x4b, 3, 4], "zip"),
        (0, [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c], "7z"),
        (0, [0x04, 0x22, 0x4d, 0x18], "lz4"), (257, Array("ustar".utf8), "tar"),
    ]

    /// What it is packed with.
    var packer: String? {
        if let found = Self.packers.first(where: { has($0.magic, at: $0.place) }) { return found.name }
        return isLZMA ? "lzma" : nil
    }

    /// LZMA alone has no magic number, but few values that its first 13 bytes can have.
    private var isLZMA: Bool {
        guard bytes.count >= 13, bytes[0] == 0x5d, bytes[1] == 0, bytes[2] == 0 else { return false }
        let size = bytes[5..<13].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return size == .max || size < 1 << 40
    }
}
