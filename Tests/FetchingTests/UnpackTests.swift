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

@Suite("Unpacking images", .enabled(if: Packing.hasTools, Packing.missing))
struct UnpackTests {
    private let scratch = Scratch()
    private var cache: TestCache { TestCache(scratch) }

    private func shell(_ command: String) throws {
        let outcome = try run("bash", ["-ec", command], in: scratch.path)
        try #require(outcome.code == 0, "\(command): \(outcome.errors)")
    }

    /// Packs the test's disk, and gives the packed file a name that says something else.
    private func pack(_ packing: Packing, as name: String = "disk.qcow2") throws -> (packed: String, digest: String) {
        try scratch.makeDisk()
        try shell(packing.command)
        let path = "\(scratch.folder("named"))/\(name)"
        try shell("mv packed '\(path)'")
        return (path, try digest(of: "\(scratch.path)/\(packing.disk)"))
    }

    private func serve(_ path: String) throws -> (web: WebServer, name: String) {
        let name = (path as NSString).lastPathComponent
        let web = try WebServer((path as NSString).deletingLastPathComponent)
        return (web, name)
    }

    // MARK: Several streams in one file

    private static let streams = [
        ["gzip", "-1"], ["bzip2", "-1"], ["xz", "-1"], ["zstd", "-1"], ["lz4", "-1"], ["xz", "--format=lzma", "-0"],
    ]

    /// A disk in two files, each packed for itself; the disk's digest.
    private func packHalves(_ pack: String) throws -> String {
        try scratch.makeDisk()
        try shell("head -c 1000000 disk.img | \(pack) > first; tail -c +1000001 disk.img | \(pack) > second")
        return try digest(of: "\(scratch.path)/disk.img")
    }

    /// The damaged head of a later one is no end.
    @Test(.enabled(if: Parts.has("gzip", "bzip2", "xz", "zstd", "lz4")), arguments: streams)
    func allOfThemBelongToTheDisk(_ words: [String]) throws {
        let expected = try packHalves("\(words.joined(separator: " ")) -c")
        let packed = "\(scratch.path)/packed"
        try shell("cat first second > packed")
        #expect(try digest(of: try cache.pulled(packed)) == expected)
        let second = try Files.read("\(scratch.path)/second", limit: 1 << 24)
        for (place, byte) in [(0, 0), (0, 0xff), (1, 0), (2, 0xff)] as [(Int, UInt8)] where second[place] != byte {
            var damaged = second
            damaged[place] = byte
            scratch.file("damaged", damaged)
            try shell("cat first damaged > packed")
            let before = cache.disks
            expectRefused(try cache.pull(packed), .image, "it is broken")
            #expect(cache.disks == before)
            let (web, name) = try serve(packed)
            expectRefused(try cache.pull(web.url(name)), .image, "it is broken")
            #expect(cache.disks == before && cache.leftovers == [])
        }
    }

    /// Whoever joins files may have had some without content.
    @Test(.enabled(if: Parts.has("gzip", "bzip2", "xz", "zstd", "lz4")), arguments: streams)
    func emptyOnesAreNoEnd(_ words: [String]) throws {
        let pack = "\(words.joined(separator: " ")) -c"
        let expected = try packHalves(pack)
        try shell("\(pack) < /dev/null > empty")
        for order in [
            "first empty second", "empty first second", "first second empty", "empty first empty empty second",
        ] {
            try shell("cat \(order) > packed")
            #expect(try digest(of: try cache.pulled("\(scratch.path)/packed")) == expected, "\(order)")
        }
    }

    /// However little it is.
    @Test(.enabled(if: Parts.has("gzip", "bzip2", "xz", "zstd", "lz4")), arguments: streams)
    func whatIsNoneIsRefused(_ words: [String]) throws {
        try scratch.makeDisk()
        try shell("\(words.joined(separator: " ")) -c disk.img > sound")
        for count in [1, 3, 4, 5, 8, 4096] {
            try shell("{ cat sound; head -c \(count) /dev/zero | tr '\\0' x; } > packed")
            expectRefused(try cache.pull("\(scratch.path)/packed"), .image, "it is broken")
        }
    }

    /// What is packed twice is as safe as what is packed once.
    @Test(.enabled(if: Parts.has("gzip", "bzip2", "xz", "zstd", "lz4")), arguments: streams)
    func eachPackingIsReadToItsEnd(_ words: [String]) throws {
        let expected = try packHalves("bzip2 -1")
        let pack = words.joined(separator: " ")
        try shell("head -c 100000 disk.img > other")
        try shell("cat first second | \(pack) -c > packed")
        #expect(try digest(of: try cache.pulled("\(scratch.path)/packed")) == expected)
        try shell("{ cat first; printf x; tail -c +2 second; } | \(pack) -c > packed")
        expectRefused(try cache.pull("\(scratch.path)/packed"), .image, "it is broken")
        try shell("for n in 1 2 3 4 5; do \(pack) -c other > more; mv more other; done")
        expectRefused(try cache.pull("\(scratch.path)/other"), .image, "packed more than")
    }

    /// An archive ends before its packing, at the end of which is the checksum.
    @Test(.enabled(if: Parts.has("gzip", "bzip2", "xz", "zstd", "lz4")), arguments: streams.prefix(5))
    func aMembersPackingIsCheckedToo(_ words: [String]) throws {
        _ = try scratch.makeDisk()
        let expected = try digest(of: "\(scratch.path)/disk.img")
        try shell("echo other > other; tar -cf both.tar disk.img other")
        try shell("\(words.joined(separator: " ")) -c both.tar > packed")
        let packed = "\(scratch.path)/packed"
        #expect(try digest(of: try cache.pulled("--member", "disk.img", packed)) == expected)
        // The last bytes are a checksum, but for gzip, with the length behind it, and xz, with an index of its own.
        var bytes = try Files.read(packed, limit: 1 << 24)
        bytes[bytes.count - (words[0] == "gzip" ? 6 : words[0] == "xz" ? 10 : 2)] ^= 0x55
        scratch.file("packed", bytes)
        expectRefused(try cache.pull("--member", "disk.img", packed), .image, "it is broken")
        expectRefused(try cache.pull(packed), .image, "it is broken")
    }

    /// Tapes are padded.
    @Test(
        .enabled(if: Parts.has("gzip", "bzip2", "xz", "lz4")),
        arguments: [["gzip", "-1"], ["bzip2", "-1"], ["xz", "-1"], ["lz4", "-1"], ["xz", "--format=lzma", "-0"]])
    func paddingIsNoDamage(_ words: [String]) throws {
        try scratch.makeDisk()
        let expected = try digest(of: "\(scratch.path)/disk.img")
        try shell("\(words.joined(separator: " ")) -c disk.img > packed; head -c 10240 /dev/zero >> packed")
        #expect(try digest(of: try cache.pulled("\(scratch.path)/packed")) == expected)
        try shell("printf x >> packed")
        expectRefused(try cache.pull("\(scratch.path)/packed"), .image, "it is broken")
    }

    // MARK: Its digest

    /// Zeros that are still to be written are none of the disk's.
    @Test(.enabled(if: WebServer.canRun, WebServer.missing), arguments: ["", "z", "--zstd"])
    func theDigestFollowsWhatIsWritten(_ option: String) throws {
        let web = try WebServer(scratch.folder("www"))
        let disk = try web.serve("disk.img", mebibytes: 40)
        let flag = option.hasPrefix("-") ? option + " -cf" : "-c\(option)f"
        try shell("tar \(flag) www/disk.tar -C www disk.img")
        try web.put("disk.tar", ["rate": 40_000_000])
        for place in [web.url("disk.tar"), "\(web.root)/disk.tar"] {
            let path = try cache.pulled(place)
            #expect(try digest(of: path) == disk.digest)
            let entry = try #require(ImageCache.entry(at: path))
            #expect(entry.record.content?.hex == disk.digest)
        }
        #expect(try cache.images("verify").code == 0)
    }

    // MARK: What it is, its content says

    @Test(arguments: Packing.all)
    func fromAPath(_ packing: Packing) throws {
        let (packed, expected) = try pack(packing)
        let before = try digest(of: packed)
        let disk = try cache.pulled(packed)
        #expect(try digest(of: disk) == expected)
        #expect(try digest(of: packed) == before)
        #expect(disk.hasPrefix(cache.path))
        #expect(cache.leftovers == [])
    }

    @Test(.enabled(if: WebServer.canRun, WebServer.missing), arguments: Packing.all)
    func byURL(_ packing: Packing) throws {
        let (packed, expected) = try pack(packing, as: "image.iso")
        let (web, name) = try serve(packed)
        #expect(try digest(of: try cache.pulled(web.url(name))) == expected)
        #expect(cache.leftovers == [])
        let sent = try web.sent(name)
        #expect(try sent <= fileSize(packed) + 4096)
        #expect(try digest(of: try cache.pulled(web.url(name))) == expected)
        #expect(try web.sent(name) == sent, "the second time there was nothing to fetch")
    }

    @Test(.enabled(if: WebServer.canRun, WebServer.missing), arguments: Packing.named("xz", "zip"))
    func theChecksumIsOfThePackedFile(_ packing: Packing) throws {
        let (packed, expected) = try pack(packing)
        let (web, name) = try serve(packed)
        let sum = try digest(of: packed)
        try cache.refuses(
            .checksum, [expected, sum], "--checksum", "sha256:\(expected)", web.url(name))
        #expect(cache.disks == [])
        #expect(try digest(of: try cache.pulled("--checksum", "sha256:\(sum)", web.url(name))) == expected)
        #expect(try digest(of: try cache.pulled("--checksum", "sha256:\(sum)", packed)) == expected)
    }

    @Test(arguments: Packing.named("gz", "tar", "sparse tar", "zip", "7z"))
    func zeroBlocksBecomeHoles(_ packing: Packing) throws {
        let disk = try cache.pulled(try pack(packing).packed)
        let size = try fileSize(disk)
        #expect(try size == fileSize("\(scratch.path)/disk.img"))
        #expect(try allocated(disk) < size * 5 / 8, "half of it is zeros")
    }

    // MARK: Archives

    private static let archives = ["tar", "zip", "7z"]

    private func packTwo(_ kind: String) throws -> String {
        try scratch.makeDisk("first.img")
        try scratch.makeDisk("second.img")
        _ = scratch.file("README", "Two disks.\n")
        let files = "README first.img second.img"
        switch kind {
        case "tar": try shell("tar -cf two \(files)")
        case "zip": try shell("zip -q two.zip \(files); mv two.zip two")
        default: try shell("7z a -bd two.7z \(files) >7z.log; mv two.7z two")
        }
        return "\(scratch.path)/two"
    }

    @Test(arguments: archives)
    func ofTwoDisksOneIsToBeChosen(_ kind: String) throws {
        let packed = try packTwo(kind)
        try cache.refuses(.image, ["first.img", "second.img", "--member"], packed)
        #expect(cache.disks == [])
        try cache.refuses(.image, ["third.img"], "--member", "third.img", packed)
        for name in ["second.img", "first.img"] {
            let disk = try cache.pulled("--member", name, packed)
            #expect(try digest(of: disk) == (try digest(of: "\(scratch.path)/\(name)")))
        }
    }

    private static let outside = "/tmp/snabbvm-outside-\(getpid()).img"

    /// A name that leads elsewhere is a name like any other, and nothing is made there.
    @Test(arguments: [
        "../../outside.img", outside, "a/b/disk.img", "-rf", "line\nbreak.img",
    ])
    func namesOfMembersAreNoPaths(_ name: String) throws {
        let disk = try scratch.makeDisk()
        let before = try digest(of: disk)
        try shell("tar --absolute-names --transform $'s\\x01.*\\x01\(name)\\x01' -cf evil disk.img")
        unlink(disk)
        let names = Set(Files.names(scratch.path))
        let evil = "\(scratch.path)/evil"
        for pulled in [try cache.pulled(evil), try cache.pulled("--member=\(name)", evil)] {
            #expect(try digest(of: pulled) == before)
            #expect((pulled as NSString).deletingLastPathComponent == cache.path)
        }
        #expect(Set(Files.names(scratch.path)).subtracting(names) == ["cache", "home"])
        #expect(access(UnpackTests.outside, F_OK) != 0)
    }

    /// Links, pipes and devices in an archive are no disks, whatever they are called.
    @Test func onlyFilesAreDisks() throws {
        try scratch.makeDisk()
        try shell("ln -s /etc/passwd link.img; mkfifo pipe.img; mkdir folder.img")
        try shell("tar -cf odd link.img pipe.img folder.img")
        try cache.refuses(.image, ["no disk"], "\(scratch.path)/odd")
        try cache.refuses(.image, ["link.img"], "--member", "link.img", "\(scratch.path)/odd")
        try shell("tar -rf odd disk.img")
        #expect(try digest(of: try cache.pulled("\(scratch.path)/odd")) == digest(of: "\(scratch.path)/disk.img"))
    }

    @Test(arguments: [
        "tar -cf packed letter", "zip -q packed.zip letter; mv packed.zip packed", "gzip -c letter >packed",
    ])
    func whatHoldsNoDiskIsRefused(_ command: String) throws {
        _ = scratch.file("letter", "Dear machine,\n")
        try shell(command)
        try cache.refuses(.image, [], "\(scratch.path)/packed")
        #expect(cache.disks == [] && cache.leftovers == [])
    }

    /// A member whose first megabyte is a hole. It is no disk that boots, so the process that unpacks is asked itself.
    @Test func membersMayBeginWithAHole() throws {
        try shell(
            """
            truncate -s 1M holed.img; head -c 1M /dev/urandom >>holed.img
            tar -Scf packed holed.img
            """)
        let size = UInt64(try fileSize("\(scratch.path)/packed"))
        #expect(size < 3 << 19, "or it has no hole")
        // All of the file is here, and that is its end.
        scratch.file("told", littleEndian(size) + [UInt8](repeating: 0xff, count: 8))
        let request = try JSON(encoding: UnpackRequest()).text
        try shell("'\(Parts.snabbvm)' unpack '\(request)' <told 3<packed 4<>unpacked")
        #expect(try digest(of: "\(scratch.path)/unpacked") == digest(of: "\(scratch.path)/holed.img"))
        // Beside a disk it is only passed by.
        try scratch.makeDisk()
        try shell("mv holed.img holed; tar -Scf both holed disk.img")
        #expect(try digest(of: try cache.pulled("\(scratch.path)/both")) == digest(of: "\(scratch.path)/disk.img"))
    }

    /// No block of the member tells of it, only its size.
    @Test func membersMayEndWithAHole() throws {
        try scratch.makeDisk()
        try shell("truncate -s +1M disk.img; cp --sparse=always disk.img sparse.img; tar -Scf packed sparse.img")
        #expect(try digest(of: try cache.pulled("\(scratch.path)/packed")) == digest(of: "\(scratch.path)/disk.img"))
    }

    // MARK: Broken ones

    private func expectBroken(_ path: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        try cache.refuses(.image, [], path, sourceLocation: sourceLocation)
        #expect(cache.disks == [] && cache.leftovers == [], sourceLocation: sourceLocation)
    }

    @Test(arguments: Packing.all)
    func cutShort(_ packing: Packing) throws {
        let (packed, _) = try pack(packing)
        for size in [try fileSize(packed) / 2, 700] {
            truncate(packed, off_t(size))
            try expectBroken(packed)
        }
    }

    /// Every kind that has a checksum inside. The disk is noise, which is a disk like any other when a bit is wrong.
    @Test(arguments: Packing.named("gz", "bz2", "xz", "zst", "lz4", "zip", "7z", "tar.gz"))
    func corruptedInTheMiddle(_ packing: Packing) throws {
        let (packed, _) = try pack(packing)
        let file = try #require(FileHandle(forUpdatingAtPath: packed))
        let place = UInt64(try fileSize(packed) / 3)
        try file.seek(toOffset: place)
        let byte = try #require(try file.read(upToCount: 1)?.first)
        try file.seek(toOffset: place)
        try file.write(contentsOf: [byte ^ 0x10])
        try file.close()
        try expectBroken(packed)
    }

    /// What is broken already need not come to its end.
    @Test(.enabled(if: WebServer.canRun, WebServer.missing), arguments: Packing.named("xz"))
    func aBrokenFileIsNotWaitedFor(_ packing: Packing) throws {
        let (packed, _) = try pack(packing)
        let size = try fileSize(packed)
        let file = try #require(FileHandle(forUpdatingAtPath: packed))
        try file.seek(toOffset: UInt64(size / 3))
        try file.write(contentsOf: Data(count: 200_000))
        try file.close()
        let (web, name) = try serve(packed)
        try web.put(name, ["stall_after": .integer(Int64(size * 2 / 3))])
        try cache.refuses(.image, ["broken"], web.url(name))
        #expect(cache.disks == [] && cache.leftovers == [])
        #expect(try web.statistics(name).requests.count == 1)
    }

    /// Padding is common and harmless; either answer will do, but not another disk.
    @Test(arguments: Packing.all, ["zeros", "noise"])
    func garbageAtTheEnd(_ packing: Packing, _ garbage: String) throws {
        let (packed, expected) = try pack(packing)
        try shell("head -c 5000 \(garbage == "zeros" ? "/dev/zero" : "/dev/urandom") >>'\(packed)'")
        let outcome = try cache.pull(packed)
        #expect([0, ExitCode.image.rawValue].contains(outcome.code), "\(outcome)")
        #expect(cache.leftovers == [])
        if outcome.code == 0 { #expect(try digest(of: outcome.output.trimmed) == expected) }
    }

    @Test(.enabled(if: WebServer.canRun, WebServer.missing), arguments: Packing.named("xz", "tar.gz", "zip"))
    func overALinkThatDrops(_ packing: Packing) throws {
        let (packed, expected) = try pack(packing)
        let (web, name) = try serve(packed)
        try web.put(name, ["drop_after": .integer(Int64(try fileSize(packed) / 4))])
        #expect(try digest(of: try cache.pulled(web.url(name))) == expected)
        #expect(try web.statistics(name).requests.count > 2)
        #expect(try web.sent(name) < fileSize(packed) * 6 / 5)
        #expect(cache.leftovers == [])
    }

    /// Its digest is taken while it is written, holes and all.
    @Test func aDiskWithALongHoleIsVerified() throws {
        let disk = try scratch.makeDisk(each: 12)
        let expected = try digest(of: disk)
        try shell("gzip -1 '\(disk)'")
        #expect(try digest(of: try cache.pulled(disk + ".gz")) == expected)
        let outcome = try cache.images("verify")
        #expect(outcome.code == 0, "\(outcome)")
    }

    // MARK: Bombs

    @Test(arguments: Packing.named("gz", "tar", "7z"))
    func noLargerThanMaxSize(_ packing: Packing) throws {
        let (packed, expected) = try pack(packing)
        try cache.refuses(.image, ["--max-size"], "--max-size", "7M", packed)
        #expect(cache.disks == [] && cache.leftovers == [])
        #expect(try digest(of: try cache.pulled("--max-size", "9M", packed)) == expected)
    }

    /// 64 GB of zeros in 2 to 4 MB: as frames one after another, since packing them at once would take a minute.
    @Test(arguments: ["head -c 1G /dev/zero | zstd -q", "head -c 1G /dev/zero | xz -0"])
    func bombsOfZerosAreRefused(_ command: String) throws {
        _ = scratch.file("boot", bootSector(start: 1, count: 1 << 20))
        let packer = command.contains("zstd") ? "zstd -q" : "xz -0"
        try shell("\(packer) <boot >packed; \(command) >frame; for n in {1..64}; do cat frame; done >>packed")
        try cache.refuses(.image, ["--max-size"], "\(scratch.path)/packed")
        #expect(cache.disks == [] && cache.leftovers == [])
    }

    /// Where the limit is so low that the disk never gets full: zeros alone would not show it.
    @Test(.enabled(if: Parts.isRoot && Parts.has("mount"), "only root can mount"))
    func bombsNeverFillTheDisk() throws {
        let folder = scratch.folder("cache")
        #expect(try run("mount", ["-t", "tmpfs", "-o", "size=64M,mode=755", "none", folder]).code == 0)
        defer { _ = try? run("umount", ["--lazy", folder]) }
        _ = scratch.file("boot", bootSector(start: 1, count: 1 << 20))
        try shell("{ cat boot; yes | head -c 1G; } | zstd -q >packed")
        let packed = "\(scratch.path)/packed"
        try cache.refuses(.image, ["--max-size"], "--max-size", "32M", packed)
        #expect(Files.names(folder).filter { !$0.hasSuffix(".lock") } == [])
        // Without the limit the disk is full: one line too, and room again afterwards.
        try cache.refuses(.noSpace, [], "--max-size", "8G", packed)
        #expect(Files.names(folder).filter { !$0.hasSuffix(".lock") } == [])
    }
}

// MARK: - Container images

/// Disk images in container images, as KubeVirt's containerDisk has them: laid out here by hand.
@Suite("OCI images", .enabled(if: Parts.has("qemu-img", "tar", "gzip"), "qemu-img, tar or gzip is missing"))
struct OCITests {
    private let scratch = Scratch()
    private var cache: TestCache { TestCache(scratch) }
    private var layout: String { "\(scratch.path)/layout" }

    private func shell(_ command: String) throws {
        let outcome = try run("bash", ["-ec", command], in: scratch.path)
        try #require(outcome.code == 0, "\(command): \(outcome.errors)")
    }

    /// A qcow2 disk that differs from every other.
    private func makeDisk(_ name: String) throws -> String {
        try scratch.makeDisk("raw.img", each: 1)
        try shell("mkdir -p disk; qemu-img convert -f raw -O qcow2 raw.img disk/\(name)")
        return try digest(of: "\(scratch.path)/disk/\(name)")
    }

    /// Packs files as a layer, and takes them away.
    private func layer(_ files: String, packed: Bool = false) throws -> ContainerLayout.Blob {
        try shell("tar -c\(packed ? "z" : "")f layer --owner 107 --group 107 \(files); rm -rf \(files)")
        let type = "application/vnd.oci.image.layer.v1.tar" + (packed ? "+gzip" : "")
        return try ContainerLayout(layout).add(file: "\(scratch.path)/layer", type: type)
    }

    private func expectDisk(_ expected: String, _ name: String, sourceLocation: SourceLocation = #_sourceLocation)
        throws
    {
        let disk = try cache.pulled(name)
        #expect(try digest(of: disk) == expected, sourceLocation: sourceLocation)
        #expect(cache.leftovers == [], sourceLocation: sourceLocation)
    }

    /// As a folder, and as an archive of it, plain and packed.
    @Test(arguments: [false, true])
    func oneLayer(_ packed: Bool) throws {
        let expected = try makeDisk("demo.qcow2")
        let oci = ContainerLayout(layout)
        try oci.finish([oci.manifest([layer("disk", packed: packed)], tag: "latest")])
        try expectDisk(expected, "oci:\(layout)")
        try expectDisk(expected, "oci:\(layout):latest")
        try shell("tar -C layout -cf archive.tar .")
        try expectDisk(expected, "oci:\(scratch.path)/archive.tar")
        try expectDisk(expected, "oci:\(scratch.path)/archive.tar:latest")
        try cache.refuses(.image, ["nosuch"], "oci:\(layout):nosuch")
    }

    /// It is of the archive's file; a folder has none.
    @Test func theChecksumIsOfTheArchive() throws {
        let expected = try makeDisk("demo.qcow2")
        let oci = ContainerLayout(layout)
        try oci.finish([oci.manifest([layer("disk")], tag: "latest")])
        try shell("tar -C layout -cf archive.tar .")
        let archive = "\(scratch.path)/archive.tar"
        let (right, wrong) = (try digest(of: archive), String(repeating: "0", count: 64))
        try cache.refuses(.checksum, [wrong, right], "--checksum", "sha256:\(wrong)", "oci:\(archive)")
        #expect(cache.disks == [] && cache.leftovers == [])
        for name in ["oci:\(archive)", "oci:\(archive):latest"] {
            #expect(try digest(of: try cache.pulled("--checksum", "sha256:\(right)", name)) == expected)
        }
        // Nor does the cache say anything else.
        try expectDisk(expected, "oci:\(archive)")
        try cache.refuses(.checksum, [wrong, right], "--checksum", "sha256:\(wrong)", "oci:\(archive)")
        try cache.refuses(.usage, ["checksum"], "--checksum", "sha256:\(right)", "oci:\(layout)")
    }

    /// A layer hides what has its name in those below it.
    @Test func theUpperLayerCounts() throws {
        _ = try makeDisk("demo.qcow2")
        let lower = try layer("disk", packed: true)
        let expected = try makeDisk("demo.qcow2")
        let upper = try layer("disk")
        _ = scratch.file("etc/os-release", "ID=none\n")
        let other = try layer("etc")
        let oci = ContainerLayout(layout)
        try oci.finish([oci.manifest([lower, upper, other], tag: "latest")])
        try expectDisk(expected, "oci:\(layout)")
    }

    /// The mark of a deleted file takes it out of the layers below.
    @Test func deletedDisksAreNotThere() throws {
        _ = try makeDisk("old.qcow2")
        let lower = try layer("disk")
        let expected = try makeDisk("new.qcow2")
        _ = scratch.file("disk/.wh.old.qcow2", [])
        let upper = try layer("disk")
        let oci = ContainerLayout(layout)
        try oci.finish([oci.manifest([lower, upper], tag: "latest")])
        try expectDisk(expected, "oci:\(layout)")
    }

    @Test func ofSeveralTagsOneIsToBeChosen() throws {
        let oci = ContainerLayout(layout)
        let first = try makeDisk("demo.qcow2")
        let one = try oci.manifest([layer("disk")], tag: "one")
        let second = try makeDisk("demo.qcow2")
        let two = try oci.manifest([layer("disk")], tag: "two")
        try oci.finish([one, two])
        try cache.refuses(.image, ["one", "two"], "oci:\(layout)")
        try expectDisk(first, "oci:\(layout):one")
        try expectDisk(second, "oci:\(layout):two")
    }

    /// What is made for several processors has an index in the index.
    @Test func theImageForThisProcessorIsTaken() throws {
        let oci = ContainerLayout(layout)
        _ = try makeDisk("demo.qcow2")
        let other = try oci.manifest([layer("disk")], platform: "arm64")
        let expected = try makeDisk("demo.qcow2")
        let own = try oci.manifest([layer("disk")], platform: "amd64")
        try oci.finish([oci.index([other, own], tag: "latest")])
        try expectDisk(expected, "oci:\(layout):latest")
    }

    /// `docker save` as it was before it wrote OCI layouts.
    @Test func archivesOfDocker() throws {
        let expected = try makeDisk("demo.qcow2")
        try shell("mkdir -p image/abc; tar -cf image/abc/layer.tar disk; rm -r disk")
        _ = scratch.file("image/config.json", #"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}"#)
        _ = scratch.file(
            "image/manifest.json",
            #"[{"Config":"config.json","RepoTags":["router:latest"],"Layers":["abc/layer.tar"]}]"#)
        try shell("tar -C image -cf docker.tar .")
        try expectDisk(expected, "oci:\(scratch.path)/docker.tar")
    }

    @Test func aWrongDigestIsRefused() throws {
        _ = try makeDisk("demo.qcow2")
        let oci = ContainerLayout(layout)
        let blob = try layer("disk")
        try oci.finish([oci.manifest([blob], tag: "latest")])
        let file = try #require(FileHandle(forUpdatingAtPath: "\(layout)/blobs/sha256/\(blob.hex)"))
        try file.seek(toOffset: blob.size / 2)
        try file.write(contentsOf: Array("something else".utf8))
        try file.close()
        try cache.refuses(.checksum, [blob.hex], "oci:\(layout)")
        #expect(cache.disks == [] && cache.leftovers == [])
    }

    /// A digest names a file; none names one elsewhere.
    @Test(arguments: ["sha256:../../../secret", "../../secret", "sha256:", "md5:00"])
    func digestsAreNoPaths(_ text: String) throws {
        _ = try makeDisk("demo.qcow2")
        try shell("tar -cf secret disk")
        let oci = ContainerLayout(layout)
        var blob = try layer("disk")
        blob.digest = text
        try oci.finish([oci.manifest([blob], tag: "latest")])
        try cache.refuses(.image, [], "oci:\(layout)")
        #expect(cache.disks == [] && cache.leftovers == [])
    }

    @Test func whatIsNoContainerImageIsRefused() throws {
        try cache.refuses(.image, [], "oci:\(scratch.folder("empty"))")
        try cache.refuses(.image, [], "oci:\(scratch.path)/nowhere")
        try cache.refuses(.image, [], "oci:\(scratch.file("letter", "Dear machine,\n"))")
        let oci = ContainerLayout(layout)
        _ = scratch.file("etc/os-release", "ID=none\n")
        try oci.finish([oci.manifest([layer("etc")], tag: "latest")])
        try cache.refuses(.image, ["has a disk"], "oci:\(layout)")
    }
}

/// An OCI image layout, as it is being made.
struct ContainerLayout {
    struct Blob {
        var type: String
        var digest: String
        var size: UInt64
        var platform: String?
        var tag: String?

        /// Also the file's name.
        var hex: String { String(digest.dropFirst("sha256:".count)) }

        fileprivate var descriptor: JSON {
            var members: [String: JSON] = [
                "mediaType": .string(type), "digest": .string(digest), "size": .integer(Int64(size)),
            ]
            if let platform { members["platform"] = ["architecture": .string(platform), "os": "linux"] }
            if let tag { members["annotations"] = ["org.opencontainers.image.ref.name": .string(tag)] }
            return .object(members)
        }
    }

    private let path: String

    init(_ path: String) { self.path = path }

    func add(file: String, type: String) throws -> Blob {
        let hex = try digest(of: file)
        let blobs = "\(path)/blobs/sha256"
        try FileManager.default.createDirectory(atPath: blobs, withIntermediateDirectories: true)
        try? FileManager.default.removeItem(atPath: "\(blobs)/\(hex)")
        try FileManager.default.moveItem(atPath: file, toPath: "\(blobs)/\(hex)")
        return Blob(type: type, digest: "sha256:\(hex)", size: UInt64(try fileSize("\(blobs)/\(hex)")))
    }

    private func add(_ json: JSON, type: String) throws -> Blob {
        let file = path + ".blob"
        try json.text.write(toFile: file, atomically: false, encoding: .utf8)
        return try add(file: file, type: type)
    }

    func manifest(_ layers: [Blob], tag: String? = nil, platform: String? = nil) throws -> Blob {
        let config = try add(
            ["architecture": .string(platform ?? "amd64"), "os": "linux", "rootfs": ["type": "layers"]],
            type: "application/vnd.oci.image.config.v1+json")
        let type = "application/vnd.oci.image.manifest.v1+json"
        let text: JSON = [
            "schemaVersion": 2, "mediaType": .string(type), "config": config.descriptor,
            "layers": .array(layers.map(\.descriptor)),
        ]
        var blob = try add(text, type: type)
        (blob.tag, blob.platform) = (tag, platform)
        return blob
    }

    private func indexText(_ blobs: [Blob]) -> JSON {
        [
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": .array(blobs.map(\.descriptor)),
        ]
    }

    func index(_ blobs: [Blob], tag: String) throws -> Blob {
        var blob = try add(indexText(blobs), type: "application/vnd.oci.image.index.v1+json")
        blob.tag = tag
        return blob
    }

    func finish(_ blobs: [Blob]) throws {
        try indexText(blobs).text.write(toFile: "\(path)/index.json", atomically: false, encoding: .utf8)
        let version = #"{"imageLayoutVersion":"1.0.0"}"#
        try version.write(toFile: "\(path)/oci-layout", atomically: false, encoding: .utf8)
    }
}

// MARK: - What these and other tests of images share

/// One way to pack a disk: a shell command that makes the file `packed` from `disk.img`.
struct Packing: Sendable, CustomTestStringConvertible {
    var name: String
    var command: String
    /// Which file the unpacked disk is to equal.
    var disk = "disk.img"

    var testDescription: String { name }

    static let tools = ["gzip", "bzip2", "xz", "zstd", "lz4", "zip", "7z", "tar", "qemu-img"]
    static let hasTools = tools.allSatisfy { Parts.has($0) }
    static let missing: Comment = "one of \(tools.joined(separator: ", ")) is missing"

    static let all: [Packing] = [
        .init(name: "gz", command: "gzip -1 -c disk.img >packed"),
        .init(name: "bz2", command: "bzip2 -1 -c disk.img >packed"),
        .init(name: "xz", command: "xz -0 -c disk.img >packed"),
        .init(name: "zst", command: "zstd -q -c disk.img >packed"),
        .init(name: "lz4", command: "lz4 -q -c disk.img >packed"),
        .init(name: "lzma", command: "xz --format=lzma -0 -c disk.img >packed"),
        .init(name: "zip", command: "zip -q packed.zip disk.img; mv packed.zip packed"),
        .init(name: "streamed zip", command: "zip -q - - <disk.img >packed"),
        .init(name: "7z", command: "7z a -bd packed.7z disk.img >7z.log; mv packed.7z packed"),
        .init(name: "tar", command: "tar -cf packed disk.img"),
        .init(
            name: "sparse tar",
            command: "cp --sparse=always disk.img sparse.img; tar -Scf packed sparse.img; rm sparse.img"),
        .init(name: "tar.gz", command: "tar -czf packed disk.img"),
        .init(
            name: "ova",
            command: """
                qemu-img convert -f raw -O vmdk -o subformat=streamOptimized disk.img box-disk1.vmdk
                echo '<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"/>' >box.ovf
                echo "SHA256(box.ovf)= $(sha256sum <box.ovf)" >box.mf
                tar -cf packed box.ovf box.mf box-disk1.vmdk
                """, disk: "box-disk1.vmdk"),
    ]

    static func named(_ names: String...) -> [Packing] { all.filter { names.contains($0.name) } }
}

extension TestCache {
    /// The path of the disk.
    func pulled(_ words: String..., sourceLocation: SourceLocation = #_sourceLocation) throws -> String {
        let outcome = try start(["pull"] + words).outcome()
        try #require(outcome.code == 0, "\(outcome.errors)", sourceLocation: sourceLocation)
        let lines = outcome.output.split(separator: "\n")
        try #require(lines.count == 1, "\(outcome.output)", sourceLocation: sourceLocation)
        return String(lines[0])
    }

    func refuses(
        _ code: ExitCode, _ words: [String], _ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let outcome = try start(["pull"] + arguments).outcome()
        expectRefused(outcome, code, sourceLocation: sourceLocation)
        for word in words {
            #expect(outcome.errors.contains(word), "no '\(word)' in \(outcome.errors)", sourceLocation: sourceLocation)
        }
    }
}

/// An MBR with one partition.
func bootSector(start: UInt32, count: UInt32, type: UInt8 = 0x83, program: [UInt8] = []) -> [UInt8] {
    var bytes = Array(program.prefix(440))
    bytes += [UInt8](repeating: 0, count: 446 - bytes.count)
    bytes += [0x80, 0, 2, 0, type, 0xfe, 0xff, 0xff] + littleEndian(start) + littleEndian(count)
    bytes += [UInt8](repeating: 0, count: 48)
    return bytes + [0x55, 0xaa]
}

func littleEndian<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian) { Array($0) }
}

extension Scratch {
    /// A raw disk: noise, twice as much of nothing, and noise again.
    @discardableResult
    func makeDisk(_ name: String = "disk.img", each megabytes: Int = 2) throws -> String {
        let boot = file("boot-sector", bootSector(start: 1, count: UInt32(megabytes) << 13 - 1))
        let target = "\(path)/\(name)"
        let command = """
            { cat '\(boot)'; head -c \((megabytes << 20) - 512) /dev/urandom
            head -c \(megabytes << 21) /dev/zero; head -c \(megabytes << 20) /dev/urandom; } >'\(target)'
            """
        try #require(try run("bash", ["-ec", command]).code == 0)
        unlink(boot)
        return target
    }
}

func fileSize(_ path: String) throws -> Int { Int(try Files.status(path).st_size) }

func allocated(_ path: String) throws -> Int { Int(try Files.status(path).st_blocks) * 512 }
