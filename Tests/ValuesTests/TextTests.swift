import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import TestSupport
@testable import Values

@Suite struct TextTests {
    @Test(
        arguments: [
            ("512M", 512 << 20), ("4G", 4 << 30), ("2048", 2048 << 20), ("1.5G", 1536 << 20), ("4GiB", 4 << 30),
            ("4gb", 4 << 30), ("100K", 100 << 10), ("7B", 7),
        ] as [(String, UInt64)])
    func readsSizes(_ text: String, _ bytes: UInt64) { #expect(ByteCount(text, unit: 1 << 20)?.bytes == bytes) }

    @Test(arguments: ["", "0", "-1", "G", "1X", "1GG", "4 G", "1e3", "nan", "99999999999T", "0x10"])
    func refusesWhatIsNoSize(_ text: String) { #expect(ByteCount(text, unit: 1) == nil) }

    @Test func knowsWhichAddressesAnybodyOnTheWayCanChange() {
        for open in ["http://example.org/x", "HTTP://u:p@10.0.0.1:80/x", "ftp://h/x", "http://127.example/x"] {
            #expect(ImageURL(open)?.isOpen == true, "\(open)")
        }
        let local = ["http://localhost:8080/x", "http://127.0.0.1/x", "http://[::1]:80/x"]
        for safe in ["https://h/x", "ftps://h/x", "file:///x"] + local {
            #expect(ImageURL(safe)?.isOpen == false, "\(safe)")
        }
    }

    @Test func writesSizes() {
        #expect(ByteCount(2 << 30).description == "2G")
        #expect(ByteCount(1536 << 20).description == "1.5G")
        #expect(ByteCount(2 << 20).description == "2M")
        #expect(ByteCount(500).description == "500B")
    }

    /// A real shell reads back what was quoted.
    @Test(arguments: ["", "plain", "two words", "it's", "$HOME `id` \"x\"", "a\nb", "*", "-n", "\\"])
    func quotesForTheShell(_ text: String) throws {
        let outcome = try run("/bin/sh", ["-c", "printf %s \(text.shellQuoted)"])
        #expect(outcome.output == text)
    }

    @Test func namesTheNearest() {
        #expect("memry".nearest(among: ["memory", "machine", "name"]) == "memory")
        #expect("xyzzy".nearest(among: ["memory", "machine"]) == nil)
    }

    @Test func keepsToOneLine() {
        #expect("a\nb\u{1b}[31mc\u{7f}".oneLine == "a b [31mc ")
        #expect("image\u{202e}gmi.2wocq\u{2066}x\u{2028}y\u{9b}z".oneLine == "image gmi.2wocq x y z")
        #expect("größe 文字 é".oneLine == "größe 文字 é")
    }

    @Test func digestsSpread() {
        let digests = Set((0..<1000).map { stableDigest("mac", "\($0)") & 0xffff_ffff })
        #expect(digests.count > 998)
        #expect(stableDigest("ab", "c") != stableDigest("a", "bc"))
    }
}
