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

@Suite struct ChecksumTests {
    private let a256 = String(repeating: "a1", count: 32)
    private let b256 = String(repeating: "b2", count: 32)
    private let a512 = String(repeating: "c3", count: 64)
    private let b512 = String(repeating: "d4", count: 64)

    @Test func readsDigests() throws {
        let digest = try #require(Digest(.sha256, hex: a256.uppercased()))
        #expect(digest.description == "sha256:\(a256)")
        #expect(Digest(hex: a512)?.algorithm == .sha512)
        #expect(Digest(.sha512, hex: a256) == nil)
        #expect(Digest(hex: String(repeating: "g", count: 64)) == nil)
        #expect(Digest(hex: String(repeating: "é", count: 32)) == nil)
        let json = try JSON(encoding: digest)
        #expect(json == ["algorithm": "sha256", "hex": .string(a256)])
        #expect(try json.decode(Digest.self) == digest)
    }

    @Test func readsRequests() throws {
        let literal = ChecksumRequest.literal(try #require(Digest(hex: a256)))
        #expect(ChecksumRequest("sha256:\(a256)") == literal)
        #expect(ChecksumRequest("SHA256:\(a256.uppercased())") == literal)
        #expect(ChecksumRequest(a256) == literal)
        #expect(ChecksumRequest("sha512:\(a512)")?.digest?.hex == a512)
        for list in ["https://host/SHA256SUMS", "SHA256SUMS", "/u/sums:1", "file:///x", "shared:x", "sha256"] {
            #expect(ChecksumRequest(list) == .list(list))
        }
    }

    /// Taken for names of lists, these would end in "no such file", or worse in a file that somebody put there.
    @Test(arguments: [
        "", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha1:x", "sha256:", "sha256:abc", "SHA512:0", "sha384:x",
        "sha256://host/x", "sha-256:x", "blake3:x",
    ])
    func refusesWhatIsMeantAsADigest(_ text: String) { #expect(ChecksumRequest(text) == nil) }

    @Test func refusesDigestsOfTheWrongLength() {
        #expect(ChecksumRequest("sha256:\(a512)") == nil)
        #expect(ChecksumRequest("sha512:\(a256)") == nil)
        #expect(ChecksumRequest("sha256:\(a256) ") == nil)
    }

    @Test func readsBothLayouts() {
        let list = ChecksumList(
            """
            # debian.raw: 12 bytes
            \(a256)  debian.raw
            \(b256.uppercased()) *ubuntu.img
            SHA512 (rocky (9).qcow2) = \(a512)
            SHA2-256(openssl.img)= \(b256)
            MD5 (rocky (9).qcow2) = d41d8cd98f00b204e9800998ecf8427e
            d41d8cd98f00b204e9800998ecf8427e  old.img
            da39a3ee5e6b4b0d3255bfef95601890afd80709  old.img
            SHA512/256 (old.img) = \(a256)
            BLAKE2b (old.img) = \(a512)
            SHA256 (short.img) = \(a512)
            """)
        #expect(list.count == 4)
        #expect(list.digest(for: "debian.raw")?.description == "sha256:\(a256)")
        #expect(list.digest(for: "ubuntu.img")?.description == "sha256:\(b256)")
        #expect(list.digest(for: "rocky (9).qcow2")?.description == "sha512:\(a512)")
        #expect(list.digest(for: "openssl.img")?.hex == b256)
        for name in ["old.img", "short.img", "", "debian", "# debian.raw"] { #expect(list.digest(for: name) == nil) }
    }

    @Test func readsWindowsLinesAndMarks() {
        let list = ChecksumList("\u{feff}\(a256)  a\r\n\r\n\(b256) *b \r\nSHA512 (c) = \(a512)\r\n")
        #expect(list.digest(for: "a")?.hex == a256)
        #expect(list.digest(for: "b")?.hex == b256)
        #expect(list.digest(for: "c")?.hex == a512)
    }

    @Test func matchesByPathFirst() {
        let list = ChecksumList("\(a256)  amd64/disk.img\n\(b256)  disk.img\n\(a512)  ./x/other.img\n")
        #expect(list.digest(for: "amd64/disk.img")?.hex == a256)
        #expect(list.digest(for: "disk.img")?.hex == b256)
        #expect(list.digest(for: "./disk.img")?.hex == b256)
        #expect(list.digest(for: "other.img")?.hex == a512)
        #expect(list.digest(for: "releases/x/other.img")?.hex == a512)
        #expect(list.digest(for: "img") == nil)
        // Two machines' disks by one name: neither is the one that is meant.
        let two = ChecksumList("\(a256)  amd64/disk.img\n\(b256)  arm64/disk.img\n")
        #expect(two.digest(for: "disk.img") == nil)
        #expect(two.digest(for: "arm64/disk.img")?.hex == b256)
    }

    @Test func prefersTheLongerDigest() {
        let list = ChecksumList("SHA256 (x) = \(a256)\nSHA512 (x) = \(a512)\n\(b256)  x\n")
        #expect(list.digest(for: "x")?.hex == a512)
    }

    @Test func refusesAListThatContradictsItself() {
        #expect(ChecksumList("\(a256)  x\n\(b256)  x\n").digest(for: "x") == nil)
        #expect(ChecksumList("\(a256)  x\n\(a256) *x\n").digest(for: "x")?.hex == a256)
        #expect(ChecksumList("\(a256)\n\(b256)\n").digest(for: "x") == nil)
    }

    @Test func takesADigestAloneForWhateverItLiesBeside() {
        for text in [a256, "\(a256)\n", "\(a256)  -\n", "\n# x\n\(a256) *-\r\n", "SHA256 (-) = \(a256)"] {
            #expect(ChecksumList(text).digest(for: "any.img")?.hex == a256)
        }
        #expect(ChecksumList("\(a256)\n\(b256)  other.img\n").digest(for: "any.img") == nil)
        #expect(ChecksumList("\(b256)  other.img\n").digest(for: "any.img") == nil)
    }

    /// Anybody could have put lines around the part that is signed.
    @Test func readsOnlyWhatIsSigned() {
        let text = """
            \(b256)  before.img
            -----BEGIN PGP SIGNED MESSAGE-----
            Hash: SHA256
            SHA256 (header.img) = \(b256)

            \(a256)  x.img
            - \(a512)  -dash.img
            -----BEGIN PGP SIGNATURE-----

            \(b256)  signature.img
            -----END PGP SIGNATURE-----
            \(b256)  after.img
            """
        for text in [text, text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n")] {
            let list = ChecksumList(text)
            #expect(list.count == 2)
            #expect(list.digest(for: "x.img")?.hex == a256)
            #expect(list.digest(for: "-dash.img")?.hex == a512)
        }
        #expect(ChecksumList("-----BEGIN PGP SIGNED MESSAGE-----").count == 0)
    }

    @Test func boundsItsWork() {
        #expect(ChecksumList("\(a256)  \(String(repeating: "x", count: 5000))\n\(b256)  y\n").count == 1)
        #expect(ChecksumList(String(repeating: "\n", count: 1 << 20) + "\(a256)  late\n").count == 0)
        #expect(ChecksumList(String(repeating: "(", count: 1 << 20)).count == 0)
    }

    @Test func mutatedListsNeverCrash() {
        let seed = Array(
            """
            -----BEGIN PGP SIGNED MESSAGE-----

            \(a256)  ./a/b.img
            SHA512 (b.img) = \(b512)
            - \(b256) *-
            -----BEGIN PGP SIGNATURE-----
            """.utf8)
        var random = RandomBytes(seed: 13)
        for _ in 0..<2000 {
            var bytes = seed
            for _ in 0...random.next(4) { bytes[random.next(bytes.count)] = UInt8(random.next(256)) }
            let list = ChecksumList(String(decoding: bytes, as: UTF8.self))
            if let digest = list.digest(for: "b.img") { #expect(digest.hex.count == digest.algorithm.hexDigits) }
        }
    }
}

extension ChecksumRequest {
    fileprivate var digest: Digest? { if case .literal(let digest) = self { digest } else { nil } }
}
