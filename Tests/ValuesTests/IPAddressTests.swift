import Glibc
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import Supervision
@testable import TestSupport
@testable import Values

struct IPAddressTests {
    @Test(arguments: [
        "0.0.0.0", "10.0.0.5", "255.255.255.255", "::", "fd01::ffff:ffff:ffff:feff", "fe80::1", "::ffff:1.2.3.4",
    ])
    func addressesAreReadAndWrittenAlike(_ text: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == text)
        #expect(IPAddress(bytes: address.bytes) == address)
    }

    @Test(arguments: ["", "10.0.0", "10.0.0.256", "010.0.0.1", "1.2.3.4 ", "fe80::1%eth0", "g::", ":::", "1:2"])
    func nonsenseIsNoAddress(_ text: String) { #expect(IPAddress(text) == nil) }

    @Test(arguments: [
        "10.0.0.0", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/x", "10.0.0.1/24/3", "::/129", "/24", "10.0.0.1/",
    ])
    func nonsenseIsNoNetwork(_ text: String) { #expect(NetworkAddress(text) == nil) }

    @Test func networksKnowTheirEnds() throws {
        let network = try #require(NetworkAddress("172.17.4.2/16"))
        #expect(network.first.description == "172.17.0.0" && network.last.description == "172.17.255.255")
        #expect(network.netmask.description == "255.255.0.0" && network.network.description == "172.17.0.0/16")
        #expect(network.contains(IPAddress("172.17.255.254")!) && !network.contains(IPAddress("172.18.0.0")!))
        #expect(!network.contains(IPAddress("::")!))
        #expect(
            network.overlaps(NetworkAddress("172.16.0.0/12")!) && !network.overlaps(NetworkAddress("172.16.0.0/16")!))
        let all = try #require(NetworkAddress("0.0.0.0/0"))
        #expect(all.contains(network.address) && all.last.description == "255.255.255.255")
        #expect(NetworkAddress("::1/0")?.last.description == "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
        #expect(NetworkAddress("::1/0")?.netmask.description == "::")
    }

    /// From the end, without what belongs to nobody or to routers; however small the network is.
    @Test func hostsAreCountedFromTheEnd() throws {
        let hosts = { (text: String, count: Int) in
            NetworkAddress(text)!.hostsFromTheEnd.prefix(count).map(\.description)
        }
        #expect(hosts("172.17.0.2/16", 2) == ["172.17.255.254", "172.17.255.253"])
        #expect(hosts("10.0.0.1/30", 9) == ["10.0.0.2", "10.0.0.1"])
        #expect(hosts("fd01::2/64", 2) == ["fd01::ffff:ffff:ffff:feff", "fd01::ffff:ffff:ffff:fefe"])
        #expect(hosts("fd01::2/126", 9) == ["fd01::2", "fd01::1"])
        for text in [
            "0.0.0.0/32", "255.255.255.255/32", "10.0.0.0/31", "::/128", "::/127",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
        ] {
            #expect(hosts(text, 9).count <= 2)
        }
        #expect(hosts("255.255.255.255/0", 1) == ["255.255.255.254"])
    }

    @Test func framesSayWhatTheyWereMadeToSay() throws {
        let mac: MACAddress = "02:00:00:00:00:01"
        for text in ["10.0.0.5", "fd01::5"] {
            let address = try #require(IPAddress(text))
            let probe = try #require(Neighbour(Neighbour.probe(for: address, by: mac)))
            #expect(probe.address == address && probe.sender == mac && probe.isProbe && !probe.isClaim)
            let claim = try #require(Neighbour(Neighbour.claim(of: address, by: mac)))
            #expect(claim.address == address && claim.sender == mac && claim.isClaim && !claim.isProbe)
        }
        // Whatever comes from the wire is looked at without harm.
        let frame = Neighbour.claim(of: IPAddress("fd01::5")!, by: mac)
        for count in 0...frame.count { _ = Neighbour(frame.prefix(count)) }
        #expect(Neighbour([UInt8](repeating: 0, count: 256)) == nil)
    }
}

/// IPAddress reads and writes without the C library, and must do so exactly as that does.
struct IPAddressAndGlibcTests {
    /// What inet_pton makes of it.
    private static func bytes(_ text: String) -> [UInt8]? {
        let isSix = text.contains(":")
        var bytes = [UInt8](repeating: 0, count: isSix ? 16 : 4)
        return inet_pton(isSix ? AF_INET6 : AF_INET, text, &bytes) == 1 ? bytes : nil
    }

    private static func text(_ bytes: [UInt8]) -> String {
        var text = [CChar](repeating: 0, count: 64)
        inet_ntop(bytes.count == 4 ? AF_INET : AF_INET6, bytes, &text, socklen_t(text.count))
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func check(_ text: String) {
        let address = IPAddress(text)
        #expect(address?.bytes == bytes(text), "\(text)")
        if let address { #expect(address.description == self.text(address.bytes), "\(text)") }
    }

    @Test func fixedTexts() {
        for text in [
            "", ":", "::", ":::", "::::", ".", "1", "1.2.3", "1.2.3.4", "1.2.3.4.", ".1.2.3.4", "1..2.3", "1.2.3.4.5",
            "0.0.0.0", "00.0.0.0", "01.2.3.4", "1.2.3.04", "1.2.3.256", "1.2.3.999999999999", "+1.2.3.4", "1.2.3.-4",
            "0x1.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.٤", "::1", "1::", ":1", "1:", "1::2", "1:::2", "1::2::3",
            "1::2:",
            ":1::2", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "1:2:3::4:5:6:7:8", "1:2:3:4::5:6:7", "00001::", "0001::", "+1::",
            "12345::", "g::", "FE80::A", "fe80::1%eth0", "::1.2.3.4", "::ffff:1.2.3.4", "::ffff:0.0.0.0", "::ffff:0:0",
            "::fffe:1.2.3.4", "1::1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:1.2.3.4",
            "::1.2.3.4:5", "1.2.3.4::", "1.2.3.4:1", "::1.2.3", "::01.2.3.4", "::1.2.3.256", "::1.2.3.4.5", "::.1.2.3",
            "64:ff9b::1.2.3.4", "0:0:0:0:0:0:0:0", "0:0:1:0:0:1:0:0", "1:0:0:1:0:0:0:1", "1:0:1:0:1:0:1:0", "0:1::",
            "::0.0.0.1", "::0.1.0.0", "::1:0:0", "::2:0:0:0", "::ffff:0:0:1", "0:0:0:0:0:ffff:1:2",
            "2001:db8::192.0.2.33",
        ] { Self.check(text) }
    }

    @Test func madeUpTextsAndBytes() {
        var random = Seeded(state: 13)
        let letters = Array("0123456789abcdefAF.:::.xg/% ")
        for _ in 0..<20_000 {
            // Runs of zeros, as addresses have them.
            let bytes = (0..<(Bool.random(using: &random) ? 4 : 16)).map { _ in
                Bool.random(using: &random) ? 0 : UInt8.random(in: 0...255, using: &random)
            }
            let text = IPAddress(bytes: bytes)?.description ?? ""
            #expect(text == Self.text(bytes))
            Self.check(text)
            var mutated = Array(text)
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: 0...mutated.count, using: &random)
                let letter = letters.randomElement(using: &random)!
                switch Int.random(in: 0..<3, using: &random) {
                case 0: mutated.insert(letter, at: place)
                case 1 where place < mutated.count: mutated.remove(at: place)
                case 2 where place < mutated.count: mutated[place] = letter
                default: mutated += mutated.prefix(place)
                }
            }
            Self.check(String(mutated))
            let length = Int.random(in: 0...24, using: &random)
            Self.check(String((0..<length).map { _ in letters.randomElement(using: &random)! }))
        }
    }

    /// The same at each run (xorshift).
    private struct Seeded: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state
        }
    }
}
