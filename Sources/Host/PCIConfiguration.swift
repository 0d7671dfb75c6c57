import Glibc
import System

/// The configuration space of a PCI function, by its file.
struct PCIConfiguration: ~Copyable {
    private let file: Descriptor
    private static let command: off_t = 4
    private static let busMaster: UInt16 = 1 << 2

    init(_ folder: String, writable: Bool = false) throws(Errno) {
        file = try Descriptor.open("\(folder)/config", writable ? O_RDWR : O_RDONLY)
    }

    var isBusMaster: Bool { (try? readCommand()).map { $0 & PCIConfiguration.busMaster != 0 } ?? false }

    func clearBusMaster() throws(Errno) {
        let value = try readCommand()
        // All ones come from a device that is gone.
        if value == .max || value & PCIConfiguration.busMaster == 0 { return }
        var cleared = (value & ~PCIConfiguration.busMaster).littleEndian
        try Errno.check { pwrite(file.raw, &cleared, 2, PCIConfiguration.command) }
    }

    private func readCommand() throws(Errno) -> UInt16 {
        var value: UInt16 = 0
        let count = try Errno.check { pread(file.raw, &value, 2, PCIConfiguration.command) }
        if count != 2 { throw Errno(code: EIO) }
        return UInt16(littleEndian: value)
    }
}
