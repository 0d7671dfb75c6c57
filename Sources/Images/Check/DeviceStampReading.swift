import Glibc
import Model
import System
import Values

extension DeviceStamp {
    private static let samples: UInt64 = 48
    private static let sampleSize = 64 << 10

    /// Of a block device as it is now; nil where the kernel does not tell how much is written to it.
    init?(_ device: HeldDescriptor, number: UInt64) {
        // What was written by any name of the device's is counted once it is there.
        fsync(device.raw)
        let major = number >> 8 & 0xfff | number >> 32 & ~0xfff
        let minor = number & 0xff | number >> 12 & ~0xff
        let fields = (FileTree().line("/sys/dev/block/\(major):\(minor)/stat") ?? "").split(separator: " ")
        // Sectors written, and since Linux 4.18 those that were discarded.
        guard fields.count > 6, let written = UInt64(fields[6]) else { return nil }
        let discarded = fields.count > 13 ? UInt64(fields[13]) ?? 0 : 0
        self.init(boot: PartialFile.boot, written: written &+ discarded, samples: DeviceStamp.samples(of: device))
    }

    /// A digest of pieces from its beginning to its end: any file system that is mounted or written to changes some.
    private static func samples(of device: HeldDescriptor) -> String {
        let last = device.size - min(device.size, UInt64(sampleSize))
        var buffer = [UInt8](repeating: 0, count: sampleSize)
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for index in 0..<samples {
            let count = pread(device.raw, &buffer, sampleSize, off_t(last / (samples - 1) * index & ~0xfff))
            hash = buffer.withUnsafeBytes { bytes in
                stride(from: 0, to: max(0, count) & ~7, by: 8).reduce(hash) { hash, place in
                    let mixed = (hash ^ bytes.load(fromByteOffset: place, as: UInt64.self)) &* 0x100_0000_01b3
                    return mixed ^ mixed >> 29
                }
            }
        }
        return hexadecimal(hash, digits: 16)
    }
}
