import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import Supervision
@testable import System
@testable import TestSupport
@testable import Values

@Suite struct PortRequestTests {
    private func parse(_ text: String, _ environment: [String: String] = [:]) throws -> [PortRequest] {
        try PortRequest.parse(text, environment: environment)
    }

    @Test func takesFullAndShortAddresses() throws {
        for text in ["0000:05:00.0", "05:00.0", "5:0.0", "00000000:05:00.0"] {
            #expect(try parse(text) == [PortRequest(source: .pci("0000:05:00.0"))])
        }
        #expect(try parse("10000:E1:1F.7").first?.source.pciAddress == "10000:e1:1f.7")
        #expect(try parse("if:ens1f0").first?.source == .interface("ens1f0"))
        #expect(try parse("tap:tap0").first?.source == .tap("tap0"))
    }

    @Test func takesAddressesFromAVariable() throws {
        let ports = try parse("env:PCIDEVICE,vlan=7", ["PCIDEVICE": "0000:05:00.1,0000:05:00.0"])
        #expect(ports.map(\.source.pciAddress) == ["0000:05:00.1", "0000:05:00.0"])
        #expect(ports.map(\.settings.vlan) == [7, 7])
    }

    @Test func takesEveryKey() throws {
        let text =
            "05:00.0,engine=snabb,driver=intel_mp,mac=52:54:00:AA:bb:cc,vlan=100,vmdq=yes,filter-in=tcp port 80 or (ip,, ip6),"
            + "filter-out=ip,rx-limit=2G,tx-limit=500M,mtu=9000,queues=2,cpu=3,name=wan"
        let settings = try #require(try parse(text).first?.settings)
        for row in PortKey.table { #expect(row.isGiven(settings), "\(row.name)") }
        #expect(settings.filterIn == "tcp port 80 or (ip, ip6)")
        #expect(settings.rxLimit == 2_000_000_000 && settings.txLimit == 500_000_000)
        #expect(settings.mac == "52:54:00:aa:bb:cc" && settings.vmdq == true && settings.name == "wan")
    }

    @Test(
        arguments: [
            ("05:00", "neither a PCI address"), ("05:00.8", "neither a PCI address"), ("05:20.0", "neither a PCI"),
            ("eth0", "neither a PCI address"), ("if:", "neither"), ("if:a/b", "neither"),
            ("tap:0123456789abcdef", "neither"),
            ("05:00.0,vlan", "no key=value"), ("05:00.0,", "no key=value"),
            ("05:00.0,vlan=0", "vlan='0' is not 1-4094"),
            ("05:00.0,vlan=4095", "not 1-4094"), ("05:00.0,vlna=1", "did you mean vlan?"),
            ("05:00.0,mac=ff:ff:ff:ff:ff:ff", "not ADDRESS"),
            ("05:00.0,rx-limit=fast", "not RATE"), ("05:00.0,rx-limit=-1", "not RATE"),
            ("05:00.0,rx-limit=1", "not RATE"),
            ("05:00.0,mtu=100", "not 576-9000"), ("05:00.0,engine=ovs", "snabb|dpdk|vfio"),
            ("05:00.0,name=a b", "not NAME"),
            ("05:00.0,filter-in= ", "not FILTER"), ("env:NONE", "no variable NONE"), ("env:EMPTY", "is empty"),
            ("env:BAD", "'eth0' in it"),
        ])
    func refuses(_ text: String, _ reason: String) {
        let failure = expectThrown(Failure.self) { try parse(text, ["EMPTY": " ", "BAD": "05:00.0,eth0"]) }
        #expect(failure?.kind == .usage)
        #expect(failure?.line.contains(reason) == true, "\(failure?.line ?? "")")
    }

    @Test func aPortIsGivenOnce() {
        let failure = expectThrown(Failure.self) {
            try Parser.parse(["x", "05:00.0", "0000:05:00.0,vlan=1"], environment: [:])
        }
        #expect(failure?.line.contains("given twice") == true)
    }

    @Test func aMachineOfItsOwnKernelNeedsNoImage() throws {
        let arguments = try Parser.parse(["--kernel", "k", "05:00.0", "if:eth1"], environment: [:])
        #expect(arguments.image == nil && arguments.ports.count == 2)
        #expect(try Parser.parse(["--state", "d", "05:00.0"], environment: [:]).image == nil)
        #expect(throws: Failure.self) { try Parser.parse(["--kernel", "k", "05:00.9"], environment: [:]) }
    }

    // MARK: The file of ports

    private func file(_ text: String) throws -> [PortRequest] { try PortsFile.parse(Array(text.utf8), path: "/p.json") }

    @Test func readsAFileOfPorts() throws {
        let ports = try file(
            #"[{"port": "05:00.0", "vlan": 100, "vmdq": false, "filter-in": null}, {"port": "if:eth1", "rx-limit": "2G"}]"#
        )
        #expect(ports.map(\.source) == [.pci("0000:05:00.0"), .interface("eth1")])
        #expect(
            ports[0].settings
                == {
                    var s = PortSettings()
                    s.vlan = 100
                    s.vmdq = false
                    return s
                }())
        #expect(ports[1].settings.rxLimit == 2_000_000_000)
    }

    @Test func theCommandLineStandsAboveTheFile() throws {
        let given = try parse("05:00.0,vlan=1")
        let merged = PortsFile.merge(
            given, try file(#"[{"port": "if:eth1"}, {"port": "05:00.0", "vlan": 2, "mtu": 9000}]"#))
        #expect(merged.map(\.source) == [.pci("0000:05:00.0"), .interface("eth1")])
        #expect(merged[0].settings.vlan == 1 && merged[0].settings.mtu == 9000)
    }

    @Test(
        arguments: [
            ("{", "not JSON at byte"), ("{}", "no JSON array"), ("[1]", "entry 1 has no \"port\""),
            (#"[{"port": "eth0"}]"#, "entry 1: 'eth0'"), (#"[{"port":"05:00.0"},{"port":"5:0.0"}]"#, "twice"),
            (#"[{"port":"05:00.0","vlan":"x"}]"#, "05:00.0: vlan='x' is not 1-4094"),
            (#"[{"port":"05:00.0","vlan":[1]}]"#, "\"vlan\" is no plain value"),
            (#"[{"port":"05:00.0","vlna":1}]"#, "did you mean vlan?"),
        ])
    func refusesFiles(_ text: String, _ reason: String) {
        let failure = expectThrown(Failure.self) { try file(text) }
        #expect(failure?.kind == .usage && failure?.line.contains("/p.json") == true)
        #expect(failure?.line.contains(reason) == true, "\(failure?.line ?? "")")
    }

    @Test func ratesAreShort() {
        #expect(
            ([0, 999, 1000, 1500, 2_000_000, 10_500_000_000] as [UInt64]).map(\.inDecimalUnits) == [
                "0", "999", "1k", "1.5k", "2M", "10.5G",
            ])
    }
}
