import Foundation
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

@Suite(.enabled(if: Parts.has("qemu-img", "xorriso"), "qemu-img or xorriso is missing")) struct DiskImageTests {
    private let scratch = Scratch()

    private func inspect(_ path: String, _ format: DiskFormat? = nil) throws -> DiskImage {
        try ImageInspection(path, format: format, qemuImg: Parts.path(of: "qemu-img"), loop: EventLoop()).finish()
    }

    private func make(_ arguments: String...) throws {
        #expect(try run("qemu-img", ["create", "-q"] + arguments).code == 0)
    }

    private func bootable(_ size: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: size)
        (bytes[510], bytes[511]) = (0x55, 0xaa)
        return bytes
    }

    @Test func knowsFormats() throws {
        let qcow2 = "\(scratch.path)/a.qcow2"
        try make("-f", "qcow2", qcow2, "3G")
        #expect(try inspect(qcow2).format == .qcow2)
        #expect(try inspect(qcow2).virtualSize == .mebibytes(3072))
        let raw = scratch.file("with space, comma=1 'quote'.img", bootable(1 << 20))
        #expect(try inspect(raw).format == .raw)
        #expect(try inspect(raw).virtualSize == .mebibytes(1))
        let iso = "\(scratch.path)/a.iso"
        try run("xorriso", ["-as", "mkisofs", "-quiet", "-o", iso, "-graft-points", "raw=\(raw)"])
        #expect(try inspect(iso).format == .iso)
        #expect(try inspect(iso, .raw).format == .raw)
    }

    private func expectRefused(_ path: String, _ words: String, sourceLocation: SourceLocation = #_sourceLocation) {
        let failure = expectThrown(Failure.self, sourceLocation: sourceLocation) { try inspect(path) }
        #expect(failure?.kind == .image, sourceLocation: sourceLocation)
        #expect(failure?.line.contains(words) == true, "\(failure?.line ?? "")", sourceLocation: sourceLocation)
        #expect(failure?.line.contains("\n") == false, sourceLocation: sourceLocation)
    }

    /// It could name /etc/shadow, which the guest would then read as its disk.
    @Test func refusesBackingAndDataFiles() throws {
        let secret = scratch.file("secret", bootable(1 << 20))
        let backed = "\(scratch.path)/backed.qcow2"
        try make("-f", "qcow2", "-b", secret, "-F", "raw", backed)
        expectRefused(backed, secret)
        let split = "\(scratch.path)/split.qcow2"
        try make("-f", "qcow2", "-o", "data_file=\(scratch.path)/data", split, "1M")
        expectRefused(split, "its data is in another file")
    }

    @Test func refusesWhatIsNoDisk() throws {
        expectRefused(scratch.file("text", "hello\n"), "no boot sector")
        expectRefused(scratch.file("empty", ""), "it is empty")
        expectRefused(scratch.file("a.gz", [0x1f, 0x8b, 8, 0]), "it is packed (gzip)")
        expectRefused(scratch.file("a.xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), "it is packed (xz)")
        expectRefused("/dev/null", "neither a file nor a disk")
        let pipe = "\(scratch.path)/pipe"
        mkfifo(pipe, 0o600)
        expectRefused(pipe, "neither a file nor a disk")
        let other = "\(scratch.path)/a.qed"
        try make("-f", "qed", other, "1M")
        expectRefused(other, "it is a qed image")
        #expect(throws: Failure.self) { try inspect(scratch.file("x", bootable(4096)), .iso) }
        #expect(throws: Failure.self) { try inspect(scratch.file("y", bootable(4096)), .qcow2) }
    }

    @Test func refusesBrokenQcow2() throws {
        let path = "\(scratch.path)/a.qcow2"
        try make("-f", "qcow2", path, "100G")
        truncate(path, 66_000)
        expectRefused(path, "cut short")
        // A header that says of itself that it needs 4 GB of tables.
        var bytes = try Files.read(path, limit: 1 << 20)
        for index in 36..<40 { bytes[index] = 0xff }
        expectRefused(scratch.file("b.qcow2", bytes), "b.qcow2")
    }

    /// Whatever a broken header says, it is read or refused, within bounds, and never hangs.
    @Test func mutatedHeadersAreReadOrRefused() throws {
        let path = "\(scratch.path)/a.qcow2"
        try make("-f", "qcow2", path, "1M")
        let good = try Files.read(path, limit: 1 << 20)
        var random = RandomBytes(seed: 3)
        var refused = 0
        for _ in 0..<60 {
            var bytes = good
            for _ in 0..<2 { bytes[4 + random.next(108)] = UInt8(random.next(256)) }
            do { _ = try inspect(scratch.file("m.qcow2", bytes)) } catch let failure as Failure {
                #expect(failure.kind == .image)
                refused += 1
            }
        }
        #expect(refused > 0)
    }

    @Test func findsFilesWhereUsersPutThem() throws {
        let finder = ImageFinder(files: FileFinder(sharedFolder: scratch.folder("u")), demoFolder: scratch.path)
        let shared = scratch.file("u/sub/disk.img", "x")
        #expect(try finder.files.find("sub/disk.img", what: "image") == Files.resolved(shared))
        let failure = expectThrown(Failure.self) { try finder.files.find("sub/disc.img", what: "image") }
        #expect(failure?.remedy == "did you mean disk.img?")
        let address = expectThrown(Failure.self) { try finder.files.find("https://u:secret@host/x.img", what: "image") }
        #expect(address?.line.contains("secret") == false)
        #expect(throws: Failure.self) { try finder.files.find("u", what: "image") }
        #expect(throws: Failure.self) { try finder.demo() }
    }
}
