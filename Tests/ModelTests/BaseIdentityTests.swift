import Testing

@testable import Model
@testable import Values

/// What tells an image that a disk stands on from others.
struct BaseIdentityTests {
    private func image(_ change: (inout DiskImage) -> Void = { _ in }) -> DiskImage {
        var image = DiskImage(path: "/a", format: .raw, length: 1000, modified: 7)
        change(&image)
        return image
    }

    private let one = "sha256:" + String(repeating: "1", count: 64)
    private let two = "sha256:" + String(repeating: "2", count: 64)

    @Test func aFileIsWhatItWasUntouched() {
        #expect(image().difference(from: image { $0.path = "/b" }) == nil)
        #expect(image { $0.modified = 8 }.difference(from: image()) != nil)
        #expect(image { $0.fileSize = 999 }.difference(from: image()) != nil)
        #expect(image { $0.format = .qcow2 }.difference(from: image()) != nil)
    }

    /// At whatever time it was fetched, and to whatever place.
    @Test func aFetchedFileIsItsDigest() {
        let before = image { $0.digest = one }
        #expect(image { ($0.digest, $0.modified, $0.path) = (one, 99, "/b") }.difference(from: before) == nil)
        #expect(image { $0.digest = two }.difference(from: before) != nil)
        // Digests of other kinds say nothing of each other.
        #expect(image { $0.digest = "sha512:1" }.difference(from: before) == nil)
    }

    @Test func aMemberIsNotAnother() {
        let before = image { ($0.digest, $0.member) = (one, "a.img") }
        #expect(image { ($0.digest, $0.member) = (one, "a.img") }.difference(from: before) == nil)
        #expect(image { ($0.digest, $0.member) = (one, "b.img") }.difference(from: before) != nil)
        // The same disk under another name, or in another archive.
        let known = image { ($0.digest, $0.member, $0.content) = (one, "a.img", two) }
        #expect(image { ($0.digest, $0.member, $0.content) = (one, "b.img", two) }.difference(from: known) == nil)
        #expect(image { ($0.digest, $0.content) = (two, two) }.difference(from: known) == nil)
        #expect(image { ($0.digest, $0.member, $0.content) = (two, "a.img", one) }.difference(from: known) != nil)
    }

    /// 0.1.0 noted no members, and could take the digest of a disk too early.
    @Test func whatAnOlderVersionKnewIsEnough() {
        let before = image { $0.digest = one }
        #expect(image { ($0.digest, $0.member) = (one, "a.img") }.difference(from: before) == nil)
        #expect(image { ($0.digest, $0.member, $0.fileSize) = (one, "b.img", 2000) }.difference(from: before) != nil)
        let early = image { ($0.digest, $0.member, $0.content) = (one, "a.img", two) }
        #expect(image { ($0.digest, $0.member, $0.content) = (one, "a.img", one) }.difference(from: early) == nil)
    }

    @Test func aServersWordTellsOneStateFromTheNext() {
        let before = image { ($0.source, $0.version) = ("http://x/d", "tag 1000") }
        let again = image { ($0.source, $0.version, $0.modified) = ("http://x/d", "tag 1000", 99) }
        #expect(again.difference(from: before) == nil)
        #expect(image { ($0.source, $0.version) = ("http://x/d", "other 1000") }.difference(from: before) != nil)
        // Another server's words are of another file.
        let elsewhere = image { ($0.source, $0.version, $0.modified) = ("http://y/d", "tag 1000", 99) }
        #expect(elsewhere.difference(from: before) != nil)
    }

    @Test func aDeviceIsWhatWasWrittenToIt() {
        let stamp = { (boot: String, written: UInt64, samples: String) in
            DeviceStamp(boot: boot, written: written, samples: samples)
        }
        let before = image { $0.device = stamp("1", 5, "a") }
        #expect(image { ($0.device, $0.modified) = (stamp("1", 5, "a"), 99) }.difference(from: before) == nil)
        #expect(image { $0.device = stamp("1", 6, "a") }.difference(from: before) != nil)
        #expect(image { ($0.device, $0.modified) = (stamp("2", 0, "a"), 99) }.difference(from: before) == nil)
        #expect(image { $0.device = stamp("2", 5, "b") }.difference(from: before) != nil)
    }

    @Test(arguments: [
        ("a.img", "a.img", true), ("a.img", "./dir/a.img", true), ("dir/a.img", "./dir/a.img", true),
        ("a.img", "b.img", false), ("img", "a.img", false),
    ])
    func namesMeanMembers(_ name: String, _ member: String, _ isMeant: Bool) {
        #expect(name.means(member: member) == isMeant)
    }
}
