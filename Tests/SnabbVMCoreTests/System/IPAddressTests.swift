import Testing

@testable import SnabbVMCore

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
        let mac = try #require(MACAddress("02:00:00:00:00:01"))
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
