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

@Suite struct OCILayoutTests {
    private static let manifestType = "application/vnd.oci.image.manifest.v1+json"
    private static let indexType = "application/vnd.oci.image.index.v1+json"

    private func digest(_ letter: Character) -> String { "sha256:" + String(repeating: letter, count: 64) }

    private func entry(
        _ letter: Character, tag: String? = nil, platform: String? = nil, type: String = manifestType
    ) -> JSON {
        var members: [String: JSON] = ["mediaType": .string(type), "digest": .string(digest(letter)), "size": 7]
        if let tag { members["annotations"] = ["org.opencontainers.image.ref.name": .string(tag)] }
        if let platform {
            let parts = platform.split(separator: "/").map { JSON.string(String($0)) }
            members["platform"] = ["os": parts[0], "architecture": parts[1]]
        }
        return .object(members)
    }

    private func bytes(_ entries: [JSON]) -> [UInt8] {
        Array(JSON.object(["schemaVersion": 2, "manifests": .array(entries)]).text.utf8)
    }

    private func index(_ entries: JSON...) throws -> OCIIndex { try OCIIndex(bytes(entries), path: "disk.tar") }

    private func expectRefused<Value>(
        _ words: String, sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Value
    ) {
        let failure = expectThrown(Failure.self, sourceLocation: sourceLocation) { try body() }
        #expect(failure?.kind == .image, sourceLocation: sourceLocation)
        #expect(failure?.line.contains(words) == true, "\(failure?.line ?? "")", sourceLocation: sourceLocation)
    }

    @Test func readsReferences() {
        let parse = { (text: String, there: [String]) in OCIReference.parse(text, exists: there.contains) }
        #expect(parse("oci:disk.tar", []) == .init(path: "disk.tar"))
        #expect(parse("oci:/a/disk:13", []) == .init(path: "/a/disk", tag: "13"))
        #expect(parse("oci:/a/disk:13", ["/a/disk", "/a/disk:13"]) == .init(path: "/a/disk:13"))
        #expect(parse("oci:/a:b/disk:13", ["/a:b/disk"]) == .init(path: "/a:b/disk", tag: "13"))
        #expect(parse("oci:disk:localhost/disk:1", ["disk"]) == .init(path: "disk", tag: "localhost/disk:1"))
        #expect(parse("oci:disk:localhost/disk:1", []) == .init(path: "disk", tag: "localhost/disk:1"))
        for text in ["disk", "oci", "oci:", "oci:disk:", "oci::1", "oci://host/disk", "OCI:disk"] {
            #expect(parse(text, []) == nil)
        }
    }

    @Test func findsTheManifest() throws {
        let one = try index(entry("a")).manifest(tag: nil)
        #expect(one.blobPath == "blobs/sha256/" + String(repeating: "a", count: 64))
        #expect(one.size == 7)
        #expect(!one.isIndex)
        let two = try index(entry("a", tag: "12"), entry("b", tag: "localhost/disk:13"))
        #expect(try two.manifest(tag: "12").digest.description == digest("a"))
        #expect(try two.manifest(tag: "13").digest.description == digest("b"))
        #expect(try two.manifest(tag: "localhost/disk:13").digest.description == digest("b"))
        expectRefused("it holds several images: 12, localhost/disk:13; say which: oci:disk.tar:TAG") {
            try two.manifest(tag: nil)
        }
        expectRefused("it has no tag '14', only 12, localhost/disk:13") { try two.manifest(tag: "14") }
        expectRefused("no tags") { try index(entry("a")).manifest(tag: "1") }
        expectRefused("no tags") { try index(entry("a"), entry("b")).manifest(tag: nil) }
        // The same image by two names is one image.
        #expect(try index(entry("a", tag: "1"), entry("a", tag: "2")).manifest(tag: nil).size == 7)
        let latest = try index(entry("a", tag: "12"), entry("b", tag: "latest"))
        #expect(try latest.manifest(tag: nil).digest.description == digest("b"))
    }

    @Test func findsThePlatform() throws {
        let several = try index(
            entry("a", platform: "linux/arm64"), entry("b", platform: "linux/amd64"),
            entry("c", platform: "unknown/unknown"))
        #expect(try several.manifest(tag: nil).digest.description == digest("b"))
        #expect(try several.manifest(tag: nil, architecture: "arm64").digest.description == digest("a"))
        expectRefused("no image for linux/riscv64, only for linux/amd64, linux/arm64") {
            try several.manifest(tag: nil, architecture: "riscv64")
        }
        // What is no image is not looked at: a signature beside it.
        let signed = try index(entry("a", type: "application/vnd.example+json"), entry("b"))
        #expect(try signed.manifest(tag: nil).digest.description == digest("b"))
        expectRefused("it holds no image") { try index().manifest(tag: nil) }
    }

    @Test func goesDownThroughIndexes() throws {
        let top = try index(entry("a", tag: "1", type: Self.indexType))
        #expect(try top.manifest(tag: "1").isIndex)
        let inner = bytes([entry("c", platform: "linux/arm64"), entry("d", platform: "linux/amd64")])
        let found = try top.manifest(tag: nil) { (descriptor: OCIDescriptor) throws(Failure) -> [UInt8] in
            descriptor.digest.description == digest("a") ? inner : []
        }
        #expect(found.digest.description == digest("d"))
        // An index that names itself.
        let circle = bytes([entry("a", type: Self.indexType)])
        expectRefused("nowhere") {
            try top.manifest(tag: nil) { (_: OCIDescriptor) throws(Failure) -> [UInt8] in circle }
        }
    }

    /// A digest becomes a path in the layout.
    @Test(arguments: [
        "", "sha256:", "sha256:../../../etc/shadow", "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha512:" + String(repeating: "a", count: 128), "sha256:" + String(repeating: "a", count: 63) + "/",
        "sha256:" + String(repeating: "A", count: 64), "sha256:" + String(repeating: "a", count: 65),
    ])
    func refusesOddDigests(_ text: String) throws {
        let odd: JSON = ["mediaType": .string(Self.manifestType), "digest": .string(text), "size": 1]
        expectRefused("without a sha256 digest") { try index(odd).manifest(tag: nil) }
        let manifest = JSON.object(["layers": .array([odd])]).text
        expectRefused("without a sha256 digest") { try OCILayout(path: "x").layers(manifest: Array(manifest.utf8)) }
    }

    @Test func readsLayersTopmostFirst() throws {
        let text = JSON.object(["schemaVersion": 2, "layers": .array([entry("a"), entry("b")])]).text
        let layers = try OCILayout(path: "x").layers(manifest: Array(text.utf8))
        #expect(layers.map(\.digest.description) == [digest("b"), digest("a")])
        for text in ["{}", "[]", "{\"layers\":[]}", "{\"layers\":7}"] {
            expectRefused("its manifest has no layers") { try OCILayout(path: "x").layers(manifest: Array(text.utf8)) }
        }
        expectRefused("not JSON") { try OCILayout(path: "x").layers(manifest: []) }
        let negative = JSON.object([
            "layers": [["mediaType": "x", "digest": .string(digest("a")), "size": -1]]
        ]).text
        expectRefused("without a sha256 digest") { try OCILayout(path: "x").layers(manifest: Array(negative.utf8)) }
        let many = JSON.object(["layers": .array(Array(repeating: entry("a"), count: 1001))]).text
        expectRefused("more than 1000") { try OCILayout(path: "x").layers(manifest: Array(many.utf8)) }
    }

    @Test func readsDockerArchives() throws {
        let layers = { (text: String, tag: String?) in
            try OCILayout(path: "disk.tar").layers(dockerManifest: Array(text.utf8), tag: tag)
        }
        let one = #"[{"Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"]}]"#
        #expect(try layers(one, nil) == ["b/layer.tar", "a/layer.tar"])
        expectRefused("no tags") { try layers(one, "1") }
        let two = #"[{"RepoTags": ["disk:12"], "Layers": ["a"]}, {"RepoTags": ["disk:13"], "Layers": ["b"]}]"#
        #expect(try layers(two, "13") == ["b"])
        #expect(try layers(two, "disk:12") == ["a"])
        expectRefused("it holds several images: disk:12, disk:13") { try layers(two, nil) }
        expectRefused("did you mean disk:12?") { try layers(two, "disk:11") }
        for text in ["{}", "7", #"[{"RepoTags": []}]"#] { expectRefused("no list of images") { try layers(text, nil) } }
        expectRefused("no layers") { try layers("[]", nil) }
    }

    /// An archive's words end on a terminal.
    @Test func boundsWhatItRepeats() throws {
        let tags = (0..<500).map { entry("a", tag: "\u{1b}[2J\($0)" + String(repeating: "x", count: 1000)) }
        let failure = expectThrown(Failure.self) { try OCIIndex(bytes(tags), path: "x").manifest(tag: "none") }
        #expect((failure?.line.utf8.count ?? .max) < 4096)
        #expect(failure?.line.contains("\u{1b}") == false)
        #expect(failure?.line.contains("and 490 more") == true)
    }

    @Test func mutatedTextsAreReadOrRefused() {
        let seeds = [
            bytes([entry("a", tag: "1", platform: "linux/amd64"), entry("b", type: Self.indexType)]),
            Array(JSON.object(["layers": .array([entry("a")])]).text.utf8),
            Array(#"[{"RepoTags": ["disk:12"], "Layers": ["a"]}]"#.utf8),
        ]
        var random = RandomBytes(seed: 19)
        for round in 0..<6000 {
            var bytes = seeds[round % 3]
            for _ in 0...random.next(3) { bytes[random.next(bytes.count)] = UInt8(random.next(256)) }
            let mutated = bytes
            do throws(Failure) {
                switch round % 3 {
                case 0:
                    let found = try OCIIndex(mutated, path: "x").manifest(tag: round % 2 == 0 ? nil : "1")
                    #expect(found.blobPath.utf8.count == 77)
                case 1: _ = try OCILayout(path: "x").layers(manifest: mutated)
                default: _ = try OCILayout(path: "x").layers(dockerManifest: mutated, tag: nil)
                }
            } catch {
                #expect(error.kind == .image)
            }
        }
    }
}
