import Foundation
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

/// A command line on a made-up host, planned without a look at the real one. Its plan stands in files beside the tests,
/// and may not change by a byte unless somebody means it to.
struct GoldenCase: Decodable, Sendable, CustomTestStringConvertible {
    var name: String
    /// Which file of `Golden/hosts` says what there is.
    var host: String
    /// Words between spaces; single quotes hold one word together.
    var line: String
    var environment: [String: String]?
    var found: Found?

    /// What a look at files, addresses and TCP ports would have come to, where it differs from what the name says.
    struct Found: Decodable, Sendable {
        var image: String?
        /// Which recorded machine.json stands beside a kept disk.
        var kept: String?
        var hasKeptVariables: Bool?
        var privateFiles: [String]?
        var holders: [String: String]?
        var isDHCPTaken: Bool?
        var takenPort: Int?
        var diskSpaceMebibytes: UInt64?
    }

    struct Image: Decodable, Sendable {
        var path: String?
        var format: String
        var mebibytes: UInt64
        var isBlockDevice: Bool?
        var fileSize: UInt64?
        var modified: Int64?
        var encryption: String?
        var source: String?
        var digest: String?
        var served: String?
    }

    struct File: Decodable {
        /// Disk images by the names that command lines give them.
        var images: [String: Image]
        /// What the other files hold that command lines name.
        var texts: [String: String]
        var cases: [GoldenCase]
    }

    static let file: File = {
        let bytes = try! Data(contentsOf: Golden.folder.appending(path: "cases.json"))
        return try! JSONDecoder().decode(File.self, from: bytes)
    }()

    var testDescription: String { name }

    private var words: [String] {
        line.components(separatedBy: "'").enumerated().flatMap { index, part in
            index % 2 == 1 ? [part] : part.split(separator: " ").map(String.init)
        }
    }

    /// Golden files by the ending of their names. This function alone, and what it calls below, knows how the program
    /// comes from a command line to a plan.
    func outcome() throws -> [String: String] {
        do throws(any Error) {
            let plan = try plan()
            // A new version is no change of any plan.
            let texts = [plan.shellText, try JSON(encoding: plan).prettyText].map {
                $0.replacingOccurrences(of: "version=\(Version.text),", with: "version=VERSION,") + "\n"
            }
            return ["sh": texts[0], "json": texts[1]]
        } catch let failure as Failure {
            return ["txt": "\(failure.line)\nexit code \(failure.kind.rawValue)\n"]
        }
    }

    private func plan() throws -> Plan {
        let arguments = try Parser.parse(words, environment: environment ?? [:])
        var facts = try JSON(parsing: try Golden.text("hosts/\(host).json")).decode(HostFacts.self)
        if !Wishes.dependOnNetwork(arguments, facts) { facts.network = nil }
        var findings = Findings(folders: MachinePaths(arguments, uid: facts.privileges.uid))
        findings.programPath = "/usr/local/bin/snabbvm"
        findings.switchFolder = "/usr/local/share/snabbvm/switch"
        findings.hostKey = "made up"
        findings.hostName = host
        findings.ports = arguments.ports
        if let path = arguments.portsFile {
            findings.portsFile = path
            findings.ports = PortsFile.merge(
                arguments.ports, try PortsFile.parse(Array(text(path).utf8), path: path))
        }
        findings.image = (found?.image ?? arguments.image).map(image)
        findings.cdrom = arguments.cdrom.map(image)
        if let kept = found?.kept {
            findings.record = try JSON(parsing: try Golden.text("recorded/\(kept).machine.json"))
                .decode(MachineRecord.self)
            findings.hasKeptDisk = true
        }
        findings.hasKeptVariables = found?.hasKeptVariables ?? false
        findings.kernel = arguments.kernel
        findings.initrd = arguments.initrd
        findings.privateFiles = found?.privateFiles ?? []
        findings.secretFile = arguments.secretFile
        findings.hasVNCPassword = arguments.vncPasswordFile != nil
        findings.seed = try seed(arguments)
        findings.hasPasst = arguments.userNet == .passt && facts.tools.passt != nil
        findings.freeListener = findings.hasPasst ? 40022 : nil
        findings.isDHCPTaken = found?.isDHCPTaken ?? false
        findings.diskSpace = (found?.diskSpaceMebibytes).map(ByteCount.mebibytes)
        if let port = found?.takenPort {
            findings.takenListeners = [(SocketAddress(host: "0.0.0.0", port: port), "Address already in use")]
        }
        for (address, holder) in found?.holders ?? [:] { findings.holders[IPAddress(address)!] = holder }
        // The first address that could be free is.
        let uuid = MachineIdentity.uuid(of: arguments.name, findings.record, hostKey: findings.hostKey)
        for search in AddressSearch.all(try Wishes(arguments, facts).guestNICs, facts, uuid: uuid) where search.isChoice
        {
            findings.addresses[search.place] = search.candidates.first
        }
        return try MachinePlanner.plan(arguments, facts, Wishes(arguments, facts), findings)
    }

    private func image(_ name: String) -> DiskImage {
        let image = GoldenCase.file.images[name]!
        let size = ByteCount.mebibytes(image.mebibytes)
        let fileSize = image.fileSize ?? size.bytes / 2
        return DiskImage(
            path: image.path ?? name, format: DiskFormat(rawValue: image.format)!, virtualSize: size,
            isBlockDevice: image.isBlockDevice ?? false, fileSize: fileSize, allocated: fileSize,
            modified: image.modified ?? 1_700_000_000_000_000_000, encryption: image.encryption, source: image.source,
            digest: image.digest, served: image.served)
    }

    private func seed(_ arguments: Arguments) throws -> SeedSources {
        var seed = SeedSources()
        let content = { (path: String) in FileContent(Array(text(path).utf8), from: path) }
        seed.userData = arguments.userData.map(content)
        seed.metaData = arguments.metaData.map(content)
        seed.metaDataValue = try seed.metaData.map { try YAML.parse($0.bytes) }
        seed.networkConfig = arguments.networkConfig.map(content)
        seed.sshKeys = arguments.sshKeys.flatMap { key in
            (GoldenCase.file.texts[key] ?? key).components(separatedBy: "\n")
        }
        return seed
    }

    private func text(_ path: String) -> String { GoldenCase.file.texts[path]! }
}

/// The files that are compared with, and what was recorded of an earlier version.
enum Golden {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden")
    static let isWriting = ProcessInfo.processInfo.environment["SNABBVM_GOLDEN"] == "write"

    static func text(_ name: String) throws -> String {
        String(decoding: try Data(contentsOf: folder.appending(path: name)), as: UTF8.self)
    }

    /// Where two texts part, for people.
    static func difference(_ expected: String, _ text: String) -> String {
        let (before, now) = (expected.components(separatedBy: "\n"), text.components(separatedBy: "\n"))
        let place = zip(before, now).enumerated().first { $0.element.0 != $0.element.1 }?.offset
        let line = place ?? min(before.count, now.count)
        let pair = [before, now].map { line < $0.count ? $0[line] : "(the text has ended)" }
        // QEMU's command is one long line.
        let start = max(0, zip(pair[0], pair[1]).prefix { $0 == $1 }.count - 60)
        let shown = pair.map { (start > 0 ? "…" : "") + String($0.dropFirst(start).prefix(160)) }
        return "line \(line + 1)\n  golden: \(shown[0])\n  now:    \(shown[1])"
    }
}

/// Plans stay as they were, byte for byte. `SNABBVM_GOLDEN=write` writes the files anew, for a change that is meant.
@Suite struct GoldenPlanTests {
    static let cases: [GoldenCase] = GoldenCase.file.cases
    private static let endings = ["sh", "json", "txt"]

    @Test(arguments: cases)
    func plan(_ golden: GoldenCase) throws {
        let outcome = try golden.outcome()
        for ending in GoldenPlanTests.endings {
            let name = "\(golden.name).\(ending)"
            let file = Golden.folder.appending(path: name)
            if Golden.isWriting {
                try? FileManager.default.removeItem(at: file)
                try outcome[ending].map { try Data($0.utf8).write(to: file) }
                continue
            }
            let expected = try? Golden.text(name)
            if expected == outcome[ending] { continue }
            guard let expected, let text = outcome[ending] else {
                let what = expected == nil ? "there is no such golden file" : "there is no such outcome any more"
                let failure = outcome["txt"].map { "\n  now:    \($0)" } ?? ""
                Issue.record("\(name): \(what)\(failure)")
                continue
            }
            Issue.record("\(name), \(Golden.difference(expected, text))")
        }
        if Golden.isWriting { Issue.record("\(golden.name) was written and not compared: run again without writing") }
    }

    /// Of each case there is what belongs to it, and nothing is left of cases that are gone.
    @Test func everyFileHasItsCase() throws {
        let names = GoldenPlanTests.cases.map(\.name)
        #expect(Set(names).count == names.count)
        let hosts = Set(GoldenPlanTests.cases.map { "hosts/\($0.host).json" })
        let recorded = ["overlay.machine.json", "blank.machine.json", "start.ledger", "changes.ledger"]
        var known = hosts.union(recorded.map { "recorded/\($0)" })
        known.insert("cases.json")
        for name in names { known.formUnion(GoldenPlanTests.endings.map { "\(name).\($0)" }) }
        let folder = Golden.folder.path(percentEncoded: false)
        for name in try FileManager.default.subpathsOfDirectory(atPath: folder)
        where !["hosts", "recorded"].contains(name) && !known.contains(name) {
            Issue.record("Golden/\(name) belongs to no case")
        }
    }
}

/// What an earlier version wrote is still understood. The files were recorded, and are never to be written anew.
@Suite struct RecordedFilesTests {
    private func changes(_ name: String) throws -> [Effect] {
        try Golden.text("recorded/\(name)").split(separator: "\n").map { line in
            try JSON(parsing: String(line)).decode(Effect.self)
        }
    }

    /// The folders as a real start wrote them, then one change of each kind.
    private static let all: [Effect] = [
        .folder(path: "/run/snabbvm", isShared: true),
        .folder(path: "/srv/vm", isShared: true),
        .folder(path: "/run/snabbvm/vm", isShared: false),
        .file(path: "/run/snabbvm/vm/a \"quoted\" näme"),
        .process(name: "qemu", identity(4_194_303, 1)),
        .take(
            NICState(
                address: "0000:05:00.0",
                mark: NICMark(
                    machine: "vm", host: "3f2a", driver: "ixgbe",
                    interfaces: [.init(name: "ens1f0", isUp: true), .init(name: "ens1f0v", isUp: false)],
                    iommuType: "DMA-FQ"),
                override: "vfio-pci", binds: "vfio-pci")),
        .take(
            NICState(
                address: "0000:05:00.1",
                mark: NICMark(machine: "vm", host: "3f2a", driver: nil, interfaces: [], iommuType: nil),
                override: nil, binds: nil)),
        .remount(path: "/sys"),
        .mount(path: "/var/run/snabb/hugetlbfs"),
        .hugepageAdded,
        .interfaceUp(name: "ens1f1"),
        .xdp(interface: "ens1f1"),
        .tap(name: "sv7a32c9t0", isMultiQueue: true, namespace: 4_026_532_178),
        .bridged(eth0, by: "sv7a32c9b0", namespace: 4_026_532_178),
        .tables(name: "snabbvm_7a32c9", families: ["bridge", "inet"], namespace: 4_026_532_178),
        .setting(
            path: "/proc/sys/net/ipv6/conf/all/forwarding", value: "1", before: "0", namespace: 4_026_532_178),
        .switchFiles(path: "/run/snabbvm/vm/snabb"),
    ]

    private static let eth0 = InterfaceState(
        name: "eth0",
        addresses: [
            HostFacts.Address(
                address: NetworkAddress("10.80.0.2/24")!, words: ["10.80.0.2/24", "scope", "global"], label: "eth0"),
            HostFacts.Address(
                address: NetworkAddress("2001:db8:80::2/64")!,
                words: ["2001:db8:80::2/64", "scope", "global", "nodad", "valid_lft", "600"]),
        ],
        routes: [
            HostFacts.Route(
                family: .four, destination: NetworkAddress("0.0.0.0/0")!, gateway: IPAddress("10.80.0.1")!,
                device: "eth0", words: ["0.0.0.0/0", "via", "10.80.0.1"])
        ],
        neighbours: [.init(address: IPAddress("10.80.0.9")!, mac: "02:42:0a:50:00:09", device: "eth0")],
        leftovers: [NetworkAddress("2001:db8:80::/64")!])

    private static func identity(_ pid: Int32, _ startTime: UInt64) -> ProcessIdentity {
        var identity = ProcessIdentity(pid: getpid())!
        (identity.pid, identity.startTime) = (pid, startTime)
        return identity
    }

    @Test func everyChangeIsRead() throws {
        let read = try changes("changes.ledger")
        #expect(read.count == RecordedFilesTests.all.count)
        for (index, change) in zip(read, RecordedFilesTests.all).enumerated() {
            #expect(change.0 == change.1, "line \(index + 1)")
        }
        // An older program reads the lines of this one as well.
        let written = try read.map { try JSON(encoding: $0).text + "\n" }.joined()
        #expect(try written == Golden.text("recorded/changes.ledger"))
    }

    /// All that one start of a bridged machine with --state changed.
    @Test func ledgerOfAStartIsRead() throws {
        let read = try changes("start.ledger")
        #expect(read.count == 24)
        #expect(read.prefix(3) == RecordedFilesTests.all.prefix(3))
        #expect(read.contains(.file(path: "/srv/vm/disk.img.new")))
        #expect(read.contains(.tap(name: "sv7a32c9t0", isMultiQueue: false, namespace: 4_026_532_178)))
        #expect(read.last == .process(name: "qemu", RecordedFilesTests.identity(6427, 87806)))
    }

    /// Their plans are golden: disk-state-overlay and its like.
    @Test func machineRecordsAreRead() throws {
        let uuid = "f3bf8bb0-f8f1-4bac-ba97-88c1ec970c87"
        let overlay = DiskImage(
            path: "/srv/images/disk.qcow2", format: .qcow2, virtualSize: .mebibytes(64), isBlockDevice: false,
            fileSize: 196616, allocated: 200704, modified: 1_795_739_370_624_910_463)
        let disc = DiskImage(
            path: "/srv/images/demo.iso", format: .iso, virtualSize: ByteCount(19_722_240), isBlockDevice: false,
            fileSize: 19_722_240, allocated: 19_722_240, modified: 1_795_739_370_637_904_119)
        let expected = [
            "overlay": MachineRecord(
                uuid: uuid, image: overlay, diskFormat: .qcow2, diskSize: .mebibytes(128), isOverlay: true),
            "blank": MachineRecord(
                uuid: uuid, image: disc, diskFormat: .qcow2, diskSize: .mebibytes(2048), isOverlay: false),
        ]
        for (name, record) in expected {
            let text = try Golden.text("recorded/\(name).machine.json")
            #expect(try JSON(parsing: text).decode(MachineRecord.self) == record)
        }
    }
}
