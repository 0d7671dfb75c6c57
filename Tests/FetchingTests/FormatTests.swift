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

/// The demo machine as a disk of every format that QEMU knows well.
@Suite(
    "Image formats", .enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"),
    .serialized)
struct FormatTests {
    private let scratch = Scratch()

    struct Format: Sendable, CustomTestStringConvertible {
        var name: String
        var options: [String] = []
        var testDescription: String { ([name] + options).joined(separator: " ") }
    }

    private static let formats: [Format] = [
        .init(name: "qcow2"), .init(name: "vmdk"), .init(name: "vmdk", options: ["-o", "subformat=streamOptimized"]),
        .init(name: "vhdx"), .init(name: "vpc"), .init(name: "vpc", options: ["-o", "subformat=fixed"]),
        .init(name: "vdi"), .init(name: "parallels"),
    ]

    @discardableResult
    private func image(_ arguments: String...) throws -> Outcome {
        var outcome = try run("qemu-img", arguments, in: scratch.path)
        while outcome.errors.contains("accurate CPU usage") {
            outcome = try run("qemu-img", arguments, in: scratch.path)
        }
        try #require(outcome.code == 0, "\(arguments): \(outcome.errors)")
        return outcome
    }

    /// The content says what it is, not the name. But the fixed one has nothing except its footer, and would be taken
    /// for the ISO that is before it.
    private func words(_ format: Format) -> [String] {
        switch format.name {
        case "raw": ["--format", "raw"]
        case "vpc" where !format.options.isEmpty: ["--format", "vpc"]
        default: []
        }
    }

    private func convert(_ format: Format, from source: String = Parts.demo) throws -> String {
        let path = "\(scratch.path)/image"
        let words = ["convert", "-f", "raw", "-O", format.name] + format.options + [source, path]
        let outcome = try run("qemu-img", words)
        try #require(outcome.code == 0, "\(format): \(outcome.errors)")
        return path
    }

    private static let userData = "#cloud-config\n# Grüße von der Platte\n"

    /// Boots, sees that the guest has the user-data, and that the image is what it was.
    private func expectBoots(
        _ image: String, _ options: [String] = [], sourceLocation: SourceLocation = #_sourceLocation,
        whileUp look: (TestMachine) throws -> Void = { _ in }
    ) throws {
        let before = try digest(of: image)
        let userData = scratch.file("user-data", FormatTests.userData)
        let machine = try TestMachine(options + ["-u", userData, image], in: scratch)
        try #require(
            machine.isUp(), "\(machine.errors)\n\(machine.output.suffix(2000))", sourceLocation: sourceLocation)
        #expect(machine.given("user-data") == FormatTests.userData, sourceLocation: sourceLocation)
        try look(machine)
        #expect(try machine.ask("stop", "--now").code == 0, sourceLocation: sourceLocation)
        #expect(machine.code() == 0, "\(machine.errors)", sourceLocation: sourceLocation)
        #expect(try digest(of: image) == before, sourceLocation: sourceLocation)
        expectNothingLeft(scratch, sourceLocation: sourceLocation)
    }

    /// LaunchTests boot from qcow2, the first.
    private static let others = Array(formats.dropFirst())

    @Test(arguments: others)
    func boots(_ format: Format) throws { try expectBoots(try convert(format), words(format)) }

    // MARK: Raw disks

    @Test(
        .enabled(if: BootDisk.hasTools, "grub-mkimage or GRUB for BIOS, mformat or mcopy is missing"),
        arguments: BootDisk.Table.allCases)
    func bootsRawDisksByTheirTable(_ table: BootDisk.Table) throws {
        try expectBoots(try BootDisk(scratch, table).path)
    }

    /// It is a raw disk with a footer, and nothing tells it from one but that.
    @Test(.enabled(if: BootDisk.hasTools, "grub-mkimage or GRUB for BIOS, mformat or mcopy is missing"))
    func bootsFixedVPCOfARawDisk() throws {
        let disk = try BootDisk(scratch, .mbr).path
        try expectBoots(try convert(.init(name: "vpc", options: ["-o", "subformat=fixed"]), from: disk))
    }

    /// The launcher with an end in place of QEMU: whoever gets so far has had the image accepted.
    private func launch(_ arguments: [String]) throws -> Outcome {
        let own = ["--vnc", "off", "--accel", "tcg", "-m", "128", "--hugepages", "off", "--qemu", "/bin/false"]
        return try run(Parts.snabbvm, TestMachine.options(scratch, name: "test") + own + arguments)
    }

    private func expectUnusable(
        _ words: String, _ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        expectRefused(try launch(arguments), .image, words, sourceLocation: sourceLocation)
        expectNothingLeft(scratch, sourceLocation: sourceLocation)
    }

    private func expectAccepted(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) throws {
        let outcome = try launch(arguments)
        #expect(outcome.code == FailureKind.qemu.rawValue, "\(outcome)", sourceLocation: sourceLocation)
        #expect(outcome.errors.contains("exit code 1"), "\(outcome)", sourceLocation: sourceLocation)
    }

    @Test(arguments: BootDisk.Table.allCases)
    func rawDisksCutShortAreRefusedUnlessForced(_ table: BootDisk.Table) throws {
        let disk = try BootDisk(scratch, table, boots: false).path
        try expectAccepted(disk)
        truncate(disk, off_t(try fileSize(disk) / 2))
        try expectUnusable("cut short", disk)
        try expectAccepted("--format", "raw", disk)
    }

    /// A byte of its header, and a byte of its list of partitions.
    @Test(arguments: [512 + 56, 1024 + 40])
    func aDamagedGPTIsRefusedUnlessForced(_ place: Int) throws {
        let disk = try BootDisk(scratch, .gpt, boots: false).path
        let file = try #require(FileHandle(forUpdatingAtPath: disk))
        try file.seek(toOffset: UInt64(place))
        try file.write(contentsOf: [0x77])
        try file.close()
        try expectUnusable("GPT", disk)
        try expectAccepted("--format", "raw", disk)
    }

    // MARK: Copies and sizes

    private var kept: String { "\(scratch.path)/state/disk.img" }

    /// Makes the machine's disk, and keeps it. Returns what it is.
    private func keep(_ original: String, _ format: Format, _ options: [String]) throws -> String {
        let state = ["--state", "\(scratch.path)/state"]
        let outcome = try launch(words(format) + state + options + [original])
        try #require(outcome.code == FailureKind.qemu.rawValue, "\(outcome)")
        let record = try JSON(parsing: try Files.read("\(scratch.path)/state/machine.json", limit: 1 << 16))
        return try #require(record["diskFormat"]?.string)
    }

    @Test(arguments: formats + [.init(name: "raw")])
    func copiesHaveTheSameContent(_ format: Format) throws {
        let original = try convert(format)
        let before = try digest(of: original)
        let keptFormat = try keep(original, format, ["--copy"])
        try image("compare", "-f", format.name, "-F", keptFormat, original, kept)
        let information = try JSON(parsing: try image("info", "--output=json", kept).output)
        #expect(information["backing-filename"] == nil, "a copy needs nothing else")
        #expect(try digest(of: original) == before)
    }

    @Test(arguments: formats, [[], ["--copy"]])
    func disksGrow(_ format: Format, _ options: [String]) throws {
        let keptFormat = try keep(try convert(format), format, options + ["--disk-size", "64M"])
        let information = try image("info", "-U", "--output=json", "-f", keptFormat, kept).output
        #expect(try JSON(parsing: information)["virtual-size"] == .integer(64 << 20))
    }

    // MARK: What could read other files of this host

    @Test func otherFilesAreRefused() throws {
        let secret = scratch.file("secret", bootSector(start: 1, count: 2047) + [UInt8](repeating: 7, count: 1 << 20))
        try image("create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", "backed.qcow2")
        try expectUnusable(secret, "\(scratch.path)/backed.qcow2")
        try image("create", "-q", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "split.qcow2", "1M")
        try expectUnusable("another file", "\(scratch.path)/split.qcow2")
        try image("convert", "-O", "vmdk", secret, "parent.vmdk")
        try image("create", "-q", "-f", "vmdk", "-b", "parent.vmdk", "-F", "vmdk", "child.vmdk")
        try expectUnusable("another file", "\(scratch.path)/child.vmdk")
        // Packed, they are the same.
        try #require(try run("gzip", ["-k", "\(scratch.path)/backed.qcow2"]).code == 0)
        try expectUnusable(secret, "--cache", "\(scratch.path)/cache", "\(scratch.path)/backed.qcow2.gz")
    }

    /// The descriptor names any file it likes.
    @Test(arguments: ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
    func vmdkInSeveralFilesIsRefused(_ kind: String) throws {
        try image("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=\(kind)", Parts.demo, "disk.vmdk")
        try expectUnusable("files", "\(scratch.path)/disk.vmdk")
        try expectUnusable("files", "--format", "vmdk", "\(scratch.path)/disk.vmdk")
    }

    // MARK: Encrypted images

    private func encrypt(_ kind: String, secret: String) throws -> String {
        let options = kind == "luks" ? ",encrypt.iter-time=10" : ""
        try image(
            "convert", "-f", "raw", "-O", "qcow2", "--object", "secret,id=s,file=\(secret)", "-o",
            "encrypt.format=\(kind),encrypt.key-secret=s\(options)", Parts.demo, "encrypted.qcow2")
        return "\(scratch.path)/encrypted.qcow2"
    }

    /// Some versions of qemu-img fail by chance where they see how fast this processor makes keys.
    @Test func encryptedDisksAreMadeInTheEnd() throws {
        let secret = scratch.file("secret", "correct horse")
        let stumbling = """
            #!/bin/sh
            if [ "$1" = create ] && [ ! -e \(scratch.path)/second ]; then
                [ ! -e \(scratch.path)/first ] || : > \(scratch.path)/second
                : > \(scratch.path)/first
                echo 'qemu-img: disk.img.new: Unable to get accurate CPU usage' >&2
                exit 1
            fi
            exec \(Parts.path(of: "qemu-img")) "$@"

            """
        let program = scratch.file("tools/qemu-img", stumbling)
        chmod(program, 0o755)
        let machine = try TestMachine(
            ["--secret-file", secret, try encrypt("luks", secret: secret)], in: scratch,
            wrapper: ["env", "PATH=\(scratch.path)/tools:\(Parts.searchPath)"])
        #expect(machine.isUp(), "\(machine.errors)")
        #expect(access("\(scratch.path)/second", F_OK) == 0)
        machine.signal(SIGTERM)
        #expect(machine.code() == 0)
    }

    @Test func encryptedImagesNeedTheirSecret() throws {
        let encrypted = try encrypt("luks", secret: scratch.file("secret", "correct horse"))
        try expectUnusable("--secret-file", encrypted)
        // That QEMU finds out.
        let machine = try TestMachine(
            ["--secret-file", scratch.file("wrong", "battery staple"), encrypted], in: scratch)
        #expect(machine.code() == ExitCode.image.rawValue)
        #expect(machine.errors.contains("Invalid password"))
        #expect(machine.errors.contains("see that the file of --secret-file holds the passphrase"))
        try expectUnusable("there is no such file", "--secret-file", "\(scratch.path)/none", encrypted)
        try expectUnusable("empty", "--secret-file", scratch.file("empty", ""), encrypted)
    }

    /// What the guest writes must not lie in the clear beside an image that does not.
    @Test func encryptedImagesBootAndStayEncrypted() throws {
        let secret = scratch.file("secret", "correct horse")
        chmod(secret, 0o600)
        try expectBoots(try encrypt("luks", secret: secret), ["--secret-file", secret]) { machine in
            let disk = try #require(try machine.status()["disks"]?.array?.first?["path"]?.string)
            let information = try JSON(parsing: try image("info", "-U", "--output=json", disk).output)
            #expect(information["encrypted"] == true, "\(information.text)")
            #expect(information["format-specific"]?["data"]?["encrypt"]?["format"] == "luks")
            #expect(!machine.processes.contains { $0.contains("correct horse") })
        }
    }

    /// Broken by design, and QEMU does not run machines from it.
    @Test func theOldEncryptionIsRefused() throws {
        let secret = scratch.file("secret", "horse")
        let encrypted = try encrypt("aes", secret: secret)
        try expectUnusable("encrypted (aes)", encrypted)
        try expectUnusable("encrypted (aes)", "--secret-file", secret, encrypted)
    }
}

/// A raw disk with the demo machine in a partition, which GRUB boots by BIOS.
struct BootDisk {
    enum Table: String, CaseIterable, Sendable { case mbr, gpt }

    let path: String
    private static let sectors: UInt64 = 36 << 11
    private static let grub = "/usr/lib/grub/i386-pc/boot.img"
    static let hasTools = Parts.has("grub-mkimage", "mformat", "mcopy") && FileTree().exists(grub)

    /// Without GRUB it is as sound a disk, and boots nothing.
    init(_ scratch: Scratch, _ table: Table, boots: Bool = true) throws {
        path = "\(scratch.path)/disk.raw"
        let made = FileManager.default.createFile(atPath: path, contents: Data())
        try #require(made && truncate(path, off_t(BootDisk.sectors * 512)) == 0)
        if boots { try makeBootable(scratch, table) }
        let program = boots ? try Files.read(BootDisk.grub, limit: 512) : []
        switch table {
        case .mbr:
            let count = UInt32(BootDisk.sectors - 2048)
            try write(bootSector(start: 2048, count: count, type: 0x0c, program: program), at: 0)
        case .gpt: try writeGPT(program)
        }
    }

    private func write(_ bytes: [UInt8], at sector: UInt64) throws {
        let file = try #require(FileHandle(forUpdatingAtPath: path))
        try file.seek(toOffset: sector * 512)
        try file.write(contentsOf: bytes)
        try file.close()
    }

    // MARK: GRUB

    /// Where GRUB is: behind the table.
    private static func firstSector(_ table: Table) -> UInt64 { table == .mbr ? 1 : 34 }

    private func makeBootable(_ scratch: Scratch, _ table: Table) throws {
        let partition = table == .mbr ? "msdos1" : "gpt2"
        let command = """
            sed 's,/boot/,/,' '\(Parts.folder)/demo/grub.cfg' >grub.cfg
            grub-mkimage -O i386-pc -p '(hd0,\(partition))/' -c grub.cfg -o core \\
                biosdisk part_msdos part_gpt fat linux boot
            gzip -1 -c '\(Parts.shareFolder)/demo-initrd' >initrd
            mformat -i '\(path)@@1M' -T $((34 * 2048)) -h 2 -s 32 ::
            mcopy -i '\(path)@@1M' '\(Parts.shareFolder)/demo-kernel' ::kernel
            mcopy -i '\(path)@@1M' initrd ::initrd
            """
        let outcome = try run("bash", ["-ec", command], in: scratch.path)
        try #require(outcome.code == 0, "\(outcome.errors)")
        var core = try Files.read("\(scratch.path)/core", limit: 1 << 20)
        // Its first sector says where the others are.
        core.replaceSubrange(0x1f4..<0x1fc, with: littleEndian(BootDisk.firstSector(table) + 1))
        try write(core, at: BootDisk.firstSector(table))
    }

    // MARK: GPT

    private func writeGPT(_ program: [UInt8]) throws {
        let last = BootDisk.sectors - 1
        let grub = entry(Array("Hah!IdontNeedEFI".utf8), 1, from: 34, to: 2047)
        let data: [UInt8] = [
            0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7,
        ]
        var entries = grub + entry(data, 2, from: 2048, to: last - 33)
        entries += [UInt8](repeating: 0, count: 128 * 128 - entries.count)
        var sector = program
        // Where the first sector of GRUB is.
        if !sector.isEmpty { sector.replaceSubrange(0x5c..<0x64, with: littleEndian(BootDisk.firstSector(.gpt))) }
        try write(bootSector(start: 1, count: UInt32(last), type: 0xee, program: sector), at: 0)
        try write(header(at: 1, other: last, entries: entries, at: 2) + entries, at: 1)
        try write(entries + header(at: last, other: 1, entries: entries, at: last - 32), at: last - 32)
    }

    private func entry(_ type: [UInt8], _ number: UInt8, from first: UInt64, to last: UInt64) -> [UInt8] {
        let identity = [UInt8](repeating: number, count: 16)
        return type + identity + littleEndian(first) + littleEndian(last) + [UInt8](repeating: 0, count: 80)
    }

    private func header(at sector: UInt64, other: UInt64, entries: [UInt8], at list: UInt64) -> [UInt8] {
        let head = Array("EFI PART".utf8) + littleEndian(UInt32(0x10000)) + littleEndian(UInt32(92))
        var tail = littleEndian(UInt32(0)) + littleEndian(sector) + littleEndian(other) + littleEndian(UInt64(34))
        tail += littleEndian(BootDisk.sectors - 34) + [UInt8](repeating: 9, count: 16) + littleEndian(list)
        tail += littleEndian(UInt32(128)) + littleEndian(UInt32(128)) + littleEndian(checksum(entries))
        let sum = checksum(head + littleEndian(UInt32(0)) + tail)
        return head + littleEndian(sum) + tail + [UInt8](repeating: 0, count: 512 - 92)
    }

    /// CRC-32, written once more so that a mistake in the program's own shows.
    private func checksum(_ bytes: [UInt8]) -> UInt32 {
        var sum = UInt32.max
        for byte in bytes {
            sum ^= UInt32(byte)
            for _ in 0..<8 { sum = sum & 1 == 0 ? sum >> 1 : (sum >> 1) ^ 0xedb8_8320 }
        }
        return ~sum
    }
}
