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

@Suite struct ImageCatalogTests {
    private let scratch = Scratch()

    private func catalog(_ text: String) throws -> ImageCatalog {
        try ImageCatalog(Array(text.utf8), file: "/etc/images.json")
    }

    @Test func readsTheBuiltInFile() throws {
        let file = Parts.folder + "/docker/images.json"
        let catalog = try ImageCatalog(files: [file])
        for name in ["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "rocky-9", "almalinux-9"] {
            let entry = try #require(catalog.entries[name])
            #expect(entry.url.hasPrefix("https://"))
            guard case .list(let list) = entry.checksum else {
                Issue.record("\(name) has no list of digests")
                continue
            }
            // The list is the folder's, so the image is in it by its own name.
            let folder = { (url: String) in url.split(separator: "/").dropLast() }
            #expect(folder(list) == folder(entry.url))
            #expect(entry.file == file)
        }
    }

    @Test func readsEntries() throws {
        let digest = String(repeating: "0f", count: 32)
        let entry = try catalog(
            """
            {"mine": {"url": "https://host/x.qcow2", "checksum": "sha256:\(digest)", "description": "Mine",
                      "keyring": "keys/mine.gpg"}, "9p": {"url": "oci:x", "checksum": null}}
            """
        ).entries
        #expect(
            entry["mine"]
                == .init(
                    url: "https://host/x.qcow2", checksum: Digest(hex: digest).map(ChecksumRequest.literal),
                    keyring: "/etc/keys/mine.gpg", file: "/etc/images.json"))
        #expect(entry["9p"]?.checksum == nil)
        #expect(try catalog("{}").entries.isEmpty)
    }

    @Test func laterFilesGoOverEarlierOnes() throws {
        let first = scratch.file("1.json", #"{"a": {"url": "one", "checksum": "SUMS"}, "b": {"url": "two"}}"#)
        let second = scratch.file("2.json", #"{"a": {"url": "three"}}"#)
        let catalog = try ImageCatalog(files: [first, "\(scratch.path)/none.json", second])
        // Not the first file's checksum for the second file's image.
        #expect(catalog.entries["a"] == .init(url: "three", file: second))
        #expect(catalog.entries["b"]?.url == "two")
        #expect(try ImageCatalog(files: []).entries.isEmpty)
    }

    @Test(arguments: [
        ("{", "not JSON"), ("[]", "no JSON object"), (#"{"a": "https://x"}"#, "a is no object"),
        (#"{"a": {}}"#, "a has no \"url\""), (#"{"a": {"url": null}}"#, "a has no \"url\""),
        (#"{"a": {"url": 1}}"#, "\"url\" must be a text"), (#"{"a": {"url": ""}}"#, "\"url\" must be a text"),
        (#"{"a": {"url": "x", "chekcsum": "y"}}"#, "did you mean \"checksum\"?"),
        (#"{"a": {"url": "x", "entirely-else": "y"}}"#, "known are url, checksum"),
        (#"{"a": {"url": "x", "checksum": "sha256:12"}}"#, "\"checksum\" is no digest"),
        (#"{"a/b": {"url": "x"}}"#, "'a/b' is no name"), (#"{"-a": {"url": "x"}}"#, "'-a' is no name"),
        (#"{"": {"url": "x"}}"#, "'' is no name"), (#"{"demo": {"url": "x"}}"#, "built-in machine"),
    ])
    func saysWhatIsWrong(_ text: String, _ words: String) {
        let failure = expectThrown(Failure.self) { try catalog(text) }
        #expect(failure?.kind == .usage)
        #expect(failure?.line.contains(words) == true, "\(failure?.line ?? "")")
        #expect(failure?.line.contains("/etc/images.json") == true)
    }

    @Test func refusesFilesThatAreNone() {
        let folder = expectThrown(Failure.self) { try ImageCatalog(files: [scratch.folder("x")]) }
        #expect(folder?.kind == .usage)
        let large = scratch.file("large.json", String(repeating: " ", count: 1 << 20) + "{}")
        let failure = expectThrown(Failure.self) { try ImageCatalog(files: [large]) }
        #expect(failure?.cause.contains("larger than") == true)
    }

    @Test func findsWhatWasMeant() throws {
        let catalog = try catalog(
            #"{"debian-9": {"url": "x"}, "debian-13": {"url": "x"}, "ubuntu-22.04": {"url": "x"}}"#)
        #expect(catalog.nearest("debian") == "debian-13")
        #expect(catalog.nearest("debian13") == "debian-13")
        #expect(catalog.nearest("ubunut-22.04") == "ubuntu-22.04")
        #expect(catalog.nearest("disk.qcow2") == nil)
        #expect(catalog.nearest("") == nil)
        #expect(catalog.nearest(String(repeating: "x", count: 1 << 20)) == nil)
    }

    @Test func mutatedFilesAreReadOrRefused() {
        let seed = Array(#"{"a": {"url": "x", "checksum": "SUMS"}, "b-1": {"url": "y", "keyring": "k"}}"#.utf8)
        var random = RandomBytes(seed: 17)
        for _ in 0..<5000 {
            var bytes = seed
            for _ in 0...random.next(3) { bytes[random.next(bytes.count)] = UInt8(random.next(256)) }
            do throws(Failure) { _ = try ImageCatalog(bytes, file: "x") } catch { #expect(error.kind == .usage) }
        }
    }
}
