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

/// What strangers made, and mistakes in it: taken or refused, within bounds, and nothing left.
@Suite("Mutated input") struct FuzzTests {
    private let scratch = Scratch()

    /// More of them, and other ones, by `make fuzz`.
    private static func setting(_ name: String) -> Int? {
        ProcessInfo.processInfo.environment[name].flatMap { Int($0) }
    }
    private static let inputs = setting("SNABBVM_FUZZ_INPUTS") ?? 60
    private static let seed = UInt64(setting("SNABBVM_FUZZ_SEED") ?? 4)

    /// Some bytes changed, a piece taken out or doubled, or the end cut off.
    private func mutate(_ original: [UInt8], _ random: inout RandomBytes) -> [UInt8] {
        var bytes = original
        for _ in 0...random.next(3) where !bytes.isEmpty {
            // Most of what can go wrong is at either end.
            let places = [random.next(bytes.count), random.next(min(512, bytes.count))]
            let place = [places[0], places[1], bytes.count - 1 - places[1]][random.next(3)]
            let piece = place..<min(bytes.count, place + 1 + random.next(300))
            switch random.next(6) {
            case 0: bytes[place] = UInt8(random.next(256))
            case 1: bytes[place] ^= 1 << UInt8(random.next(8))
            case 2: bytes.replaceSubrange(piece, with: piece.map { _ in [0, 0xff][random.next(2)] })
            case 3: bytes.removeSubrange(piece)
            case 4: bytes.insert(contentsOf: bytes[piece], at: random.next(bytes.count))
            default: bytes.removeLast(bytes.count - place)
            }
        }
        return bytes
    }

    // MARK: Archives

    private func expectBounded(_ bytes: [UInt8], _ prefix: String, _ what: String) throws {
        let cache = TestCache(scratch)
        let path = scratch.file("mutated", bytes)
        let outcome = try cache.start(["pull", "--max-size", "64M", prefix + path]).outcome()
        let lines = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("snabbvm: cannot") }
        #expect([0, 4, 11, 14, 15].contains(outcome.code), "\(what): \(outcome)")
        #expect(lines.count == (outcome.code == 0 ? 0 : 1), "\(what): \(outcome)")
        #expect(cache.leftovers == [], "\(what)")
        #expect(Set(Files.names(scratch.path)).isSubset(of: known), "\(what)")
        try? FileManager.default.removeItem(atPath: cache.path)
    }

    private let known: Set<String> = ["cache", "home", "mutated"]

    /// A small one of every kind.
    private func archives() throws -> [(name: String, prefix: String, bytes: [UInt8])] {
        let folder = Scratch()
        _ = folder.file("disk.img", smallDisk())
        let packed = try Packing.all.map { packing in
            let outcome = try run("bash", ["-ec", packing.command], in: folder.path)
            try #require(outcome.code == 0, "\(packing): \(outcome.errors)")
            return (packing.name, "", try Files.read("\(folder.path)/packed", limit: 1 << 24))
        }
        let layout = ContainerLayout("\(folder.path)/layout")
        let command = "mkdir disk; cp disk.img disk; tar -cf layer disk"
        try #require(try run("bash", ["-ec", command], in: folder.path).code == 0)
        let layer = try layout.add(file: "\(folder.path)/layer", type: "application/vnd.oci.image.layer.v1.tar")
        try layout.finish([layout.manifest([layer], tag: "latest")])
        try #require(try run("tar", ["-C", "layout", "-cf", "oci.tar", "."], in: folder.path).code == 0)
        return packed + [("oci", "oci:", try Files.read("\(folder.path)/oci.tar", limit: 1 << 24))]
    }

    /// Some noise, some zeros, some text, so that packers use all that they have.
    private func smallDisk() -> [UInt8] {
        var random = RandomBytes(seed: 1)
        let noise = (0..<4096).map { _ in UInt8(random.next(256)) }
        let text = Array(String(repeating: "All work and no play makes a dull disk. ", count: 300).utf8)
        var disk = bootSector(start: 1, count: 127) + noise + text
        disk += [UInt8](repeating: 0, count: 64 << 10 - disk.count)
        return disk
    }

    @Test(.enabled(if: Packing.hasTools, Packing.missing))
    func archivesAreUnpackedOrRefused() throws {
        let archives = try archives()
        for archive in archives { try expectBounded(archive.bytes, archive.prefix, archive.name) }
        var random = RandomBytes(seed: FuzzTests.seed)
        for index in 0..<FuzzTests.inputs {
            let archive = archives[index % archives.count]
            let what = "\(archive.name), input \(index) of seed \(FuzzTests.seed)"
            try expectBounded(mutate(archive.bytes, &random), archive.prefix, what)
        }
    }

    // MARK: qemu-img's answers

    /// ADAPT: what the program makes of qemu-img's answer about a raw file of 1 MB.
    private func read(_ information: [UInt8]) throws(Failure) -> DiskImage {
        let file = DiskImage(
            path: "/u/image", format: .iso, virtualSize: .mebibytes(1), isBlockDevice: false, fileSize: 1 << 20,
            allocated: 1 << 20, modified: 0)
        let head = DiskHead(bootSector(start: 1, count: 2047) + [UInt8](repeating: 1, count: DiskHead.size - 512))
        return try file.described(by: information, head, as: nil)
    }

    /// Answers as qemu-img gives them, shortened.
    private static let answers = [
        """
        {"virtual-size": 1048576, "filename": "image", "format": "raw", "actual-size": 1048576, "dirty-flag": false}
        """,
        """
        {"virtual-size": 1048576, "filename": "image", "cluster-size": 65536, "format": "qcow2", "actual-size": 200704, \
        "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "compression-type": "zlib", \
        "lazy-refcounts": false, "refcount-bits": 16, "corrupt": false, "extended-l2": false}}, "dirty-flag": false}
        """,
        """
        {"virtual-size": 1048576, "filename": "image", "format": "qcow2", "backing-filename": "/etc/shadow", \
        "full-backing-filename": "/etc/shadow", "backing-filename-format": "raw", \
        "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "data-file": "/etc/passwd", \
        "data-file-raw": false}}, "children": [{"name": "file", "info": {"filename": "image", "format": "file"}}]}
        """,
        """
        {"virtual-size": 19722240, "filename": "image", "format": "qcow2", "encrypted": true, \
        "format-specific": {"type": "qcow2", "data": {"encrypt": {"format": "luks", "cipher-alg": "aes-256", \
        "slots": [{"active": true, "iters": 33065, "key-offset": 4096, "stripes": 4000}]}, "corrupt": false}}}
        """,
        """
        {"virtual-size": 19722240, "filename": "image", "cluster-size": 65536, "format": "vmdk", \
        "format-specific": {"type": "vmdk", "data": {"cid": 2860521607, "parent-cid": 4294967295, \
        "create-type": "twoGbMaxExtentSparse", "extents": [{"virtual-size": 19722240, "filename": "a-s001.vmdk", \
        "cluster-size": 65536, "format": "SPARSE"}]}}, "dirty-flag": false}
        """,
    ]

    /// The same answer with another value in some places.
    private func change(_ json: JSON, _ random: inout RandomBytes) -> JSON {
        if random.next(8) == 0 {
            let deep = (0..<100).reduce(JSON.null) { inner, _ in .array([inner]) }
            let others: [JSON] = [
                .null, true, -1, 0, .integer(.max), .integer(.min), .number(1e300), "", "\n\u{1b}[31m", [],
                .object([:]),
                .string(String(repeating: "x", count: 5000)), deep, "vmdk", "qcow2", "luks",
            ]
            return others[random.next(others.count)]
        }
        switch json {
        case .array(let values): return .array(values.map { change($0, &random) })
        case .object(let members):
            var changed: [String: JSON] = [:]
            for (name, value) in members.sorted(by: { $0.key < $1.key }) where random.next(12) != 0 {
                changed[name] = change(value, &random)
            }
            return .object(changed)
        default: return json
        }
    }

    @Test func answersOfQemuImgAreReadOrRefused() throws {
        var random = RandomBytes(seed: FuzzTests.seed)
        var (taken, refused) = (0, 0)
        for index in 0..<FuzzTests.inputs * 100 {
            let text = FuzzTests.answers[index % FuzzTests.answers.count]
            let changed = change(try JSON(parsing: text), &random)
            let bytes = index % 2 == 0 ? Array(changed.text.utf8) : mutate(Array(text.utf8), &random)
            let what = Comment(rawValue: String(decoding: bytes, as: UTF8.self))
            do throws(Failure) {
                let image = try read(bytes)
                taken += 1
                #expect(image.virtualSize.bytes > 0, what)
                #expect(image.virtualSize.bytes <= UInt64(Int64.max), what)
                expectNoOtherFile(bytes, what)
            } catch {
                refused += 1
                #expect(error.kind == .image, what)
                #expect(!error.line.contains("\n") && !error.line.contains("\u{1b}"), what)
            }
        }
        #expect(taken > 0 && refused > 0)
    }

    /// What was taken names no file of the host.
    private func expectNoOtherFile(_ bytes: [UInt8], _ what: Comment) {
        guard let json = try? JSON(parsing: bytes) else { return }
        #expect(json["backing-filename"]?.string == nil, what)
        #expect(json["format-specific"]?["data"]?["data-file"]?.string == nil, what)
    }
}
