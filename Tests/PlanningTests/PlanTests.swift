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

@Suite struct PlanTests {
    private func value(of option: String, in plan: Plan) -> String? {
        let words = plan.qemu.arguments
        return words.firstIndex(of: option).map { words[$0 + 1] }
    }

    @Test func isTheSameEachTime() throws {
        #expect(try Samples.plan() == Samples.plan())
        #expect(try Samples.plan().uuid != Samples.plan { $0.hostKey = "another host" }.uuid)
        let mac = { (name: String) in try Samples.plan("--name", name, "x").guestNICs.first?.mac }
        #expect(try mac("a") != mac("b"))
    }

    @Test func namesAreValid() throws {
        let plan = try Samples.plan()
        let parts = plan.uuid.split(separator: "-")
        #expect(parts.map(\.count) == [8, 4, 4, 4, 12])
        #expect(parts[2].first == "4" && "89ab".contains(parts[3].first!))
        let first = plan.guestNICs[0].mac.bytes[0]
        #expect(first & 0b11 == 0b10, "unicast and locally administered")
    }

    /// Whatever QEMU does, it can't write what it was given only to read.
    @Test func givesTheOriginalForReadingOnly() throws {
        let plan = try Samples.plan("--cdrom", "/u/a.iso", "/u/disk.qcow2") {
            $0.cdrom = DiskImage(
                path: "/u/a.iso", format: .iso, virtualSize: .mebibytes(1), isBlockDevice: false, fileSize: 1,
                allocated: 1,
                modified: 1)
        }
        for path in ["/u/disk.qcow2", "/u/a.iso"] {
            let file = try #require(plan.qemu.files.first { $0.path == path })
            #expect(!file.writable)
        }
        #expect(plan.qemu.files.filter(\.writable).map(\.path) == [plan.folders.disk])
        #expect(!plan.qemu.arguments.contains { $0.contains("/u/") })
    }

    @Test func picksTheAccelerator() throws {
        #expect(try Samples.plan().accelerator == .kvm)
        #expect(try Samples.plan().qemu.user?.groups == [108])
        var facts = Samples.facts
        facts.kvm = .init(.cannotRunGuests, modules: ["kvm", "kvm_pvm"])
        let plan = try Samples.plan(facts: facts)
        #expect(plan.accelerator == .tcg)
        #expect(plan.notes.filter { $0.contains("kvm_pvm") }.count == 1)
        let failure = expectThrown(Failure.self) { try Samples.plan("--accel", "kvm", "x", facts: facts) }
        #expect(failure?.kind == .host)
    }

    // MARK: Memory

    private func facts(_ pools: HostFacts.HugepagePool...) -> HostFacts {
        var facts = Samples.facts
        facts.hugepages = pools
        return facts
    }

    @Test func takesHugepagesOfTheNodeThatHasThem() throws {
        let small = ByteCount.mebibytes(2)
        let plan = try Samples.plan(
            facts: facts(
                .init(node: 0, pageSize: small, total: 1024, free: 100),
                .init(node: 1, pageSize: small, total: 2048, free: 2000)))
        #expect(plan.memory == .init(size: .mebibytes(2048), pageSize: small, node: 1))
        let memory = try #require(value(of: "-object", in: plan))
        #expect(memory.contains("hugetlb=on,hugetlbsize=2M,prealloc=on") && memory.contains("host-nodes=1,policy=bind"))
    }

    @Test func prefersLargePagesAndSpreadsWhereNoNodeHasEnough() throws {
        let (small, large) = (ByteCount.mebibytes(2), ByteCount.mebibytes(1024))
        let both = facts(
            .init(node: 0, pageSize: small, total: 2048, free: 2048), .init(node: 0, pageSize: large, total: 4, free: 4)
        )
        #expect(try Samples.plan(facts: both).memory.pageSize == large)
        // 1.5G is no multiple of 1G.
        #expect(try Samples.plan("-m", "1536", "x", facts: both).memory.pageSize == small)
        let halves = facts(
            .init(node: 0, pageSize: small, total: 600, free: 600),
            .init(node: 1, pageSize: small, total: 600, free: 600))
        #expect(try Samples.plan(facts: halves).memory == .init(size: .mebibytes(2048), pageSize: small))
    }

    @Test func refusesTooFewHugepages() throws {
        let few = facts(.init(node: 0, pageSize: .mebibytes(2), total: 600, free: 500))
        let failure = expectThrown(Failure.self) { try Samples.plan(facts: few) }
        #expect(failure?.line.contains("500 of 2M are free, 1024 are needed") == true)
        #expect(try Samples.plan("--hugepages", "off", "x", facts: few).memory.pageSize == nil)
        let none = facts(.init(node: 0, pageSize: .mebibytes(2), total: 0, free: 0))
        #expect(try Samples.plan(facts: none).memory.pageSize == nil)
        #expect(throws: Failure.self) { try Samples.plan("--hugepages", "required", "x", facts: none) }
    }

    @Test func refusesMoreMemoryThanThereIs() throws {
        let failure = expectThrown(Failure.self) { try Samples.plan("-m", "64G", "x") }
        #expect(failure?.kind == .host)
        var facts = Samples.facts
        facts.memory.limit = .mebibytes(1024)
        #expect(throws: Failure.self) { try Samples.plan("-m", "2G", "x", facts: facts) }
        #expect(throws: Failure.self) { try Samples.plan("-m", "8", "x") }
    }

    // MARK: Disks

    @Test func growsAndNeverShrinks() throws {
        let plan = try Samples.plan("--disk-size", "8G", "x")
        #expect(plan.disks.first?.size == .mebibytes(8192))
        let failure = expectThrown(Failure.self) { try Samples.plan("--disk-size", "1G", "x") }
        #expect(failure?.kind == .image)
    }

    @Test func refusesAKeptDiskOnAnotherImage() throws {
        let first = try Samples.plan("--state", "/s", "x")
        let text = try #require(
            first.effects.compactMap { step -> String? in
                if case .file(let file) = step, file.path == "/s/machine.json", let content = file.content {
                    String(decoding: content.bytes, as: UTF8.self)
                } else {
                    nil
                }
            }.first)
        let record = try JSON(parsing: text).decode(MachineRecord.self)
        let again = { (change: @escaping (inout Findings) -> Void) in
            try Samples.plan("--state", "/s", "x") {
                ($0.record, $0.hasKeptDisk, $0.hostKey) = (record, true, "moved to another host")
                change(&$0)
            }
        }
        let plan = try again { _ in }
        #expect(plan.uuid == first.uuid)
        #expect(!plan.effects.contains { if case .disk = $0 { true } else { false } })
        #expect(plan.disks.first?.base == Samples.image)
        let changed = expectThrown(Failure.self) { try again { $0.image?.modified = 8 } }
        #expect(changed?.cause.contains("was changed since") == true)
        let other = expectThrown(Failure.self) {
            try again {
                $0.image?.path = "/u/other"
                $0.image?.fileSize = 1
            }
        }
        #expect(other?.cause.contains("is another image") == true)
    }

    @Test func refusesACopyThatDoesNotFit() throws {
        let failure = expectThrown(Failure.self) {
            try Samples.plan("--copy", "x") { $0.diskSpace = ByteCount(10) }
        }
        #expect(failure?.kind == .noSpace)
    }

    // MARK: The rest

    @Test func runsQEMUWithoutRightsUnlessItNeedsThem() throws {
        #expect(try Samples.plan().qemu.user?.uid == 65534)
        #expect(try Samples.plan("--publish", "8080:80", "x").qemu.mayBindLowPorts == false)
        let plan = try Samples.plan("--kernel", "/root/k", "x") {
            $0.kernel = "/root/k"
            $0.privateFiles = ["/root/k"]
        }
        #expect(plan.qemu.user?.uid == 65534)
        #expect(plan.notes.contains { $0.contains("/root/k") })
        #expect(plan.qemu.files.contains(Command.File(path: "/root/k", isCopied: true)))
    }

    /// Given as its own where that can be; in software, with a word, where it can't.
    @Test func aDeviceOfRootsAloneIsGivenToQEMU() throws {
        var facts = Samples.facts
        facts.kvm.group = nil
        #expect(try Samples.plan("x", facts: facts).qemu.devices == ["/dev/kvm"])
        facts.kvm.forAnyone = true
        #expect(try Samples.plan("x", facts: facts).qemu.devices == [])
        facts.kvm.forAnyone = false
        facts.privileges.capabilities &= ~(1 << 27)
        let plan = try Samples.plan("x", facts: facts)
        #expect(plan.accelerator == .tcg && plan.notes.contains { $0.contains("MKNOD") })
        let refused = expectThrown(Failure.self) { try Samples.plan("--accel", "kvm", "x", facts: facts) }
        #expect(refused?.kind == .host && refused?.cause.contains("MKNOD") == true)
    }

    /// Each thing for which QEMU was once root with all of its rights, on each host, alone and together.
    @Test func qemuNeverHasARightThatItDoesNotNeed() throws {
        let needs: [(words: [String], change: (inout Findings) -> Void)] = [
            ([], { _ in }), (["--publish", "80:80"], { _ in }), (["--publish", "53:53/udp"], { _ in }),
            (["--kernel", "/root/k"], { ($0.kernel, $0.privateFiles) = ("/root/k", ["/root/k"]) }),
            (
                ["--kernel", "/root/k", "--initrd", "/root/i", "--publish", "443:443"],
                { ($0.kernel, $0.initrd, $0.privateFiles) = ("/root/k", "/root/i", ["/root/k", "/root/i"]) }
            ),
        ]
        let users = [User(uid: 65534, gid: 65534), .root, User(uid: 1000, gid: 1000, groups: [4])]
        var (plans, refusals) = (0, 0)
        for kvm in [nil, UInt32?.some(108), .some(0)] {
            // All, none, one, and those that Docker gives.
            for rights in [UInt64.max, 0, 1 << 10, 0xa804_25fb] {
                for user in users {
                    for need in needs {
                        for accelerator in ["tcg", "auto"] {
                            var facts = Samples.facts
                            (facts.kvm.group, facts.kvm.forAnyone) = (kvm, kvm == 0)
                            (facts.privileges.capabilities, facts.privileges.qemuUser) = (rights, user)
                            let words = ["--accel", accelerator, "--user-net", "slirp"] + need.words + ["x"]
                            do {
                                let plan = try Samples.plan(words, facts: facts, change: need.change)
                                plans += 1
                                let qemu = plan.qemu
                                #expect(qemu.user != nil, "\(words)")
                                #expect(!qemu.mayBindLowPorts || qemu.user?.uid != 0, "\(words)")
                                let isLow = ["80:80", "443:443", "53:53/udp"].contains { words.contains($0) }
                                #expect(qemu.mayBindLowPorts == isLow, "\(words)")
                            } catch let error as Failure {
                                refusals += 1
                                #expect(error.kind == .host && error.remedy != nil, "\(error.line)")
                            }
                        }
                    }
                }
            }
        }
        print("QEMU's rights: \(plans) plans and \(refusals) refusals")
        #expect(plans > 200 && refusals > 20)
    }

    @Test func listensWhereItShould() throws {
        #expect(try Samples.plan().vnc == SocketAddress(host: "127.0.0.1", port: 5901))
        var facts = Samples.facts
        facts.privileges.inContainer = true
        let plan = try Samples.plan(facts: facts)
        #expect(plan.vnc == SocketAddress(host: "0.0.0.0", port: 5901))
        #expect(plan.notes.contains { $0.contains("no password") })
        #expect(value(of: "-vnc", in: try Samples.plan("--vnc", "[::1]:5903", "x")) == "[::1]:3")
        #expect(value(of: "-vnc", in: try Samples.plan("--vnc", "off", "x")) == nil)
    }

    @Test func quotesWhatQEMUSplits() throws {
        #expect("a,b".optionQuoted == "a,,b")
        #expect(
            try Samples.plan("--run-dir", "/run/a,b", "x").shellText.contains("path=/run/a,,b/vm/qemu/serial"))
    }

    @Test func refusesPathsThatAreTooLongForSockets() {
        let failure = expectThrown(Failure.self) {
            try Samples.plan("--run-dir", "/" + String(repeating: "x", count: 100), "x")
        }
        #expect(failure?.kind == .usage)
    }

    @Test func namesWhatIsMissing() {
        for (field, package) in [(\HostFacts.Tools.qemu, "qemu-system-x86"), (\.qemuImg, "qemu-utils")] {
            var facts = Samples.facts
            facts.tools[keyPath: field] = nil
            let failure = expectThrown(Failure.self) { try Samples.plan(facts: facts) }
            #expect(failure?.remedy == "apt-get install \(package)")
        }
    }

    /// tmux takes a dot in a session's name for a pane.
    @Test func namesWithDotsHaveWindows() throws {
        let plan = try Samples.plan("--name", "web.example", "x")
        let settings = try #require(
            plan.effects.compactMap { step -> String? in
                if case .file(let file) = step, file.path == plan.folders.tmuxSettings, let content = file.content {
                    String(decoding: content.bytes, as: UTF8.self)
                } else {
                    nil
                }
            }.first)
        #expect(settings.contains("-s web_example ") && settings.contains("-t =web_example:"))
    }

    @Test func growsAKeptDiskOnlyWhenAsked() throws {
        let record = MachineRecord(
            uuid: "x", image: Samples.image, diskFormat: .qcow2, diskSize: .mebibytes(1024), isOverlay: false)
        let again = { (words: [String], format: DiskFormat) in
            let arguments = try Parser.parse(words + ["--state", "/s", "x"], environment: [:])
            var findings = Findings(folders: MachinePaths(arguments, uid: 0))
            (findings.record, findings.hasKeptDisk, findings.image) = (record, true, Samples.image)
            findings.image?.path = "/u/another"
            findings.image?.format = format
            return try MachinePlanner.plan(arguments, Samples.facts, Wishes(arguments, Samples.facts), findings)
        }
        let resizes = { (plan: Plan) in plan.effects.contains { if case .run = $0 { true } else { false } } }
        #expect(try !resizes(again([], .iso)))
        #expect(try again([], .qcow2).notes.contains { $0.contains("was made from /u/disk.qcow2") })
        #expect(try resizes(again(["--disk-size", "4G"], .iso)))
        // The record's size is what the disk itself says, whatever an earlier start meant to do.
        #expect(try !resizes(again(["--disk-size", "1G"], .iso)))
        #expect(throws: Failure.self) { try again(["--disk-size", "512M"], .iso) }
    }

    /// No file of the user's may be seen by who sees the plan.
    @Test func keepsSecretsOutOfThePrintedPlan() throws {
        let plan = try Samples.plan("-u", "/u/secret", "x") {
            $0.seed.userData = FileContent(Array("#cloud-config\npassword: hunter2\n".utf8), from: "/u/secret")
            $0.seed.metaData = FileContent(Array("admin_pass: hunter2\n".utf8), from: "/u/meta")
            $0.seed.metaDataValue = ["admin_pass": "hunter2"]
        }
        #expect(!plan.shellText.contains("hunter2"))
        #expect(try !JSON(encoding: plan).text.contains("hunter2"))
        #expect(!plan.effects.contains { $0.summary.contains("hunter2") })
    }
}
