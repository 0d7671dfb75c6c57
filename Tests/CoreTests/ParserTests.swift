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

@Suite struct ParserTests {
    private func parse(_ words: String..., environment: [String: String] = [:]) throws -> Arguments {
        try Parser.parse(words, environment: environment)
    }

    /// The old program's command line, letter for letter.
    @Test func takesTheOldCommandLine() throws {
        let arguments = try parse("-u", "user_data.txt", "-m", "4096", "-c", "2", "disk.qcow2")
        #expect(arguments.userData == "user_data.txt")
        #expect(arguments.memory == .mebibytes(4096))
        #expect(arguments.cpus == 2)
        #expect(arguments.image == "disk.qcow2")
        #expect(try parse("-m4G", "x").memory == .mebibytes(4096))
        #expect(try parse("-h").verb == .help)
    }

    @Test func takesOptionsAnywhereAndAttached() throws {
        let arguments = try parse(
            "run", "x.img", "--memory=1G", "--copy", "--append", "-quiet", "--kernel", "k")
        #expect(try parse("--", "--odd").image == "--odd")
        #expect(arguments.memory == .mebibytes(1024))
        #expect(arguments.copy)
        #expect(arguments.append == "-quiet")
        #expect(arguments.image == "x.img")
    }

    @Test func takesVerbs() throws {
        #expect(try parse("status", "--name", "a").verb == .status)
        #expect(try parse("demo").image == "demo")
        #expect(try parse("run", "status").image == "status")
        #expect(try parse("--version").verb == .version)
        #expect(try parse("console", "serial").operand == "serial")
        #expect(try parse("stop", "--now").now)
        #expect(try parse("ports", "--watch").watch)
        #expect(try parse("release", "5:0.1", "0000:05:00.0").addresses == ["0000:05:00.1", "0000:05:00.0"])
    }

    @Test func commandLineOverridesEnvironment() throws {
        let environment = ["SNABBVM_MEMORY": "1G", "SNABBVM_CPUS": "3", "SNABBVM_COPY": "yes"]
        let arguments = try parse("-m", "2G", "x", environment: environment)
        #expect(arguments.memory == .mebibytes(2048))
        #expect(arguments.cpus == 3)
        #expect(arguments.copy)
        #expect(try !parse("--copy=no", "x", environment: environment).copy)
    }

    @Test func listsInTheEnvironmentAreLines() throws {
        let environment = ["SNABBVM_QEMU_ARG": "-device\nvirtio-balloon,x=a b", "SNABBVM_PUBLISH": "80:80"]
        let arguments = try parse("x", environment: environment)
        #expect(arguments.qemuArguments == ["-device", "virtio-balloon,x=a b"])
        let both = try parse("--publish", "22:22", "x", environment: environment)
        #expect(both.published.map(\.guest) == [22])
    }

    @Test func portsCanStandInTheEnvironment() throws {
        let environment = [
            "SNABBVM_PORTS": "0000:05:00.0, 05:00.1 env:MORE\n\n if:eth1,filter-in=ip proto tcp,vlan=7 \n",
            "MORE": "06:00.0",
        ]
        let ports = try parse("x", environment: environment).ports
        #expect(ports.map(\.source.description) == ["0000:05:00.0", "0000:05:00.1", "0000:06:00.0", "if:eth1"])
        #expect(ports.last?.settings.filterIn == "ip proto tcp")
        #expect(try parse("demo", environment: environment).ports == ports)
        #expect(try parse("x", "tap:t0", environment: environment).ports.map(\.source) == [.tap("t0")])
        #expect(try parse("status", environment: ["SNABBVM_PORTS": "nonsense"]).ports.isEmpty)
        for (list, reason) in [("05:00.0 5:0.0", "given twice"), ("eth0", "neither a PCI address")] {
            let failure = expectThrown(Failure.self) { try parse("x", environment: ["SNABBVM_PORTS": list]) }
            #expect(failure?.line.contains(reason) == true, "\(failure?.line ?? "")")
        }
    }

    /// A variable for machines must not break the commands that look at them.
    @Test func looksOnlyAtWhatItUses() throws {
        #expect(throws: Failure.self) { try parse("x", environment: ["SNABBVM_MEMORY": "lots"]) }
        #expect(try parse("status", environment: ["SNABBVM_MEMORY": "lots"]).verb == .status)
    }

    @Test(
        arguments: [
            ([], "no IMAGE given"), (["--memry", "1", "x"], "did you mean --memory?"), (["-z", "x"], "no such option"),
            (["-m"], "it needs a value"), (["-m", "much", "x"], "'much' is not SIZE"),
            (["-c", "0", "x"], "'0' is not N"),
            (["--copy=maybe", "x"], "neither yes nor no"), (["--accel", "fast", "x"], "auto|kvm|tcg"),
            (["--name", "../x", "x"], "not NAME"), (["--name", "", "x"], "not NAME"),
            (["--hostname", "a_b", "x"], "not NAME"),
            (["--publish", "80:", "x"], ":]PORT[/udp]"), (["--publish", "1-3:1-2", "x"], ":]PORT[/udp]"),
            (["--publish", "host:80:80", "x"], ":]PORT[/udp]"), (["--mac", "01:00:00:00:00:00", "x"], "not ADDRESS"),
            (["--vnc", "localhost", "x"], "PORT|off"), (["--vnc", "70000", "x"], "PORT|off"),
            (["--initrd", "i", "x"], "go with --kernel"),
            (["--net", "none", "--publish", "1:1", "x"], "without a network"),
            (["status", "x"], "an argument too many"), (["status", "-m", "1"], "no option of status"),
            (["--hugepages", "3M", "x"], "auto|off|required|SIZE"),
            (["--nic-model", "a,b", "x"], "not MODEL"), (["--stop-timeout", "-1", "x"], "not SECONDS"),
            (["-hx", "x"], "takes no value"), (["--switch-cpus", "a", "x"], "not LIST"),
            (["--switch-retries", "-1", "x"], "not N"),
            (["completion", "csh"], "none of bash, zsh, fish"), (["stop", "--health"], "no option of stop"),
            (["release", "eth0"], "no PCI address"), (["status", "--watch"], "no option of status"),
        ] as [([String], String)])
    func refuses(_ words: [String], _ reason: String) {
        let failure = expectThrown(Failure.self) { try Parser.parse(words, environment: [:]) }
        #expect(failure?.kind == .usage)
        #expect(failure?.line.contains(reason) == true, "\(failure?.line ?? "")")
    }

    @Test func readsPublishedPorts() {
        #expect(PublishedPort.parse("8080:80") == [PublishedPort(host: 8080, guest: 80)])
        #expect(
            PublishedPort.parse("127.0.0.1:53:53/udp") == [
                PublishedPort(address: "127.0.0.1", host: 53, guest: 53, udp: true)
            ])
        #expect(PublishedPort.parse("[::1]:80:80")?.first?.address == "::1")
        #expect(PublishedPort.parse("8022,1231-1233:22,1-3")?.map(\.host) == [8022, 1231, 1232, 1233])
        #expect(PublishedPort.parse("8022,1231-1233:22,1-3")?.map(\.guest) == [22, 1, 2, 3])
    }

    @Test func everyOptionIsInTheHelpAndHasItsOwnVariable() {
        let names = OptionRow.table.map(\.environmentName)
        #expect(Set(names).count == names.count)
        for row in OptionRow.table { #expect(Help.text.contains("--\(row.name)")) }
        for line in Help.text.split(separator: "\n") { #expect(line.count <= 130, "\(line)") }
    }
}
