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

@Suite struct SeedTests {
    private let scratch = Scratch()

    private func sources(_ words: String...) throws -> SeedSources {
        let arguments = try Parser.parse(words + ["x"], environment: [:])
        return try SeedSources(arguments, files: FileFinder(sharedFolder: scratch.path))
    }

    private func content(_ words: String...) throws -> [String: String] {
        let arguments = try Parser.parse(words + ["x"], environment: [:])
        let sources = try SeedSources(arguments, files: FileFinder(sharedFolder: scratch.path))
        let seed = SeedContent(
            sources: sources, instanceID: "the-id", hostname: arguments.hostname ?? "vm",
            setsHostname: arguments.hostname != nil)
        return Dictionary(
            uniqueKeysWithValues: try seed.files().map { ($0.path, String(decoding: $0.content.bytes, as: UTF8.self)) })
    }

    @Test func passesUserDataByteForByte() throws {
        let bytes = (0...255).map { UInt8($0) }
        scratch.file("binary", [0x1f, 0x8b] + bytes)
        let sources = try sources("-u", "binary")
        #expect(sources.userData?.bytes == [0x1f, 0x8b] + bytes)
        #expect(sources.warnings == [])
    }

    @Test(arguments: [
        "#cloud-config\na: 1\n", "#!/bin/sh\n", "#include\nhttp://x\n", "## template: jinja\n#cloud-config\n{{ x }}\n",
        "Content-Type: multipart/mixed; boundary=x\n", "#cloud-boothook\n", "#cloud-config-archive\n- x\n",
        "#cloud-config\r\na: 1\r\n",
    ])
    func knowsWhatCloudInitTakes(_ text: String) throws {
        _ = scratch.file("u", text)
        #expect(try sources("-u", "u").warnings == [])
    }

    @Test(arguments: [
        "hostname: x\n", "\u{feff}#cloud-config\n", "", "#cloud-config\n- a list\n",
        "# cloud-config\n",
    ])
    func warnsOfWhatCloudInitWouldIgnore(_ text: String) throws {
        _ = scratch.file("u", text)
        #expect(try sources("-u", "u").warnings.count == 1)
    }

    @Test func placesErrorsInYAML() throws {
        _ = scratch.file("u", "#cloud-config\nusers:\n  - name: a\n   shell: b\n")
        let failure = expectThrown(Failure.self) { try sources("-u", "u") }
        #expect(failure?.kind == .seed)
        #expect(failure?.cause.hasPrefix("line 4, column 4:") == true, "\(failure?.cause ?? "")")
        _ = scratch.file("m", "a: [1\n")
        #expect(throws: Failure.self) { try sources("--meta-data", "m") }
        _ = scratch.file("n", "just text\n")
        #expect(throws: Failure.self) { try sources("--network-config", "n") }
    }

    @Test func makesMetaData() throws {
        _ = scratch.file("u", "#cloud-config\n{}\n")
        let files = try content("-u", "u", "--hostname", "router-1")
        #expect(files["meta-data"] == "instance-id: \"the-id\"\nlocal-hostname: \"router-1\"\n")
        let json = try JSON(parsing: files["openstack/latest/meta_data.json"] ?? "")
        #expect(json["uuid"] == "the-id" && json["hostname"] == "router-1")
        #expect(files["openstack/latest/user_data"] == files["user-data"])
    }

    @Test func keepsGivenMetaDataAndAddsTheIDItLacks() throws {
        _ = scratch.file("m", "instance-id: mine\nrole: edge")
        #expect(try content("--meta-data", "m")["meta-data"] == "instance-id: mine\nrole: edge")
        _ = scratch.file("m2", "role: edge")
        let files = try content("--meta-data", "m2")
        #expect(files["meta-data"] == "role: edge\ninstance-id: the-id\n")
        let json = try JSON(parsing: files["openstack/latest/meta_data.json"] ?? "")
        #expect(json["role"] == "edge" && json["uuid"] == "the-id")
        _ = scratch.file("m3", "{role: edge}")
        #expect(throws: Failure.self) { try content("--meta-data", "m3") }
    }

    @Test func mergesKeysAndHostnameByVendorData() throws {
        _ = scratch.file("keys", "# mine\nssh-ed25519 AAAA one\n\nssh-rsa BBBB two\n")
        let files = try content("--ssh-key", "keys", "--ssh-key", "ssh-ed25519 CCCC three", "--hostname", "h")
        let vendor = try #require(files["vendor-data"])
        #expect(vendor.hasPrefix("#cloud-config\n"))
        let value = try YAML.parse(Array(vendor.utf8))
        #expect(value["ssh_authorized_keys"]?.array?.count == 3)
        #expect(value["hostname"] == "h")
        #expect(files["meta-data"]?.contains("public-keys: [\"ssh-ed25519 AAAA one\"") == true)
    }

    @Test(arguments: ["-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", "no key\n", "\n"])
    func refusesWhatIsNoPublicKey(_ text: String) {
        _ = scratch.file("k", text)
        let failure = expectThrown(Failure.self) { try sources("--ssh-key", "k") }
        #expect(failure?.kind == .seed)
    }

    /// The disk itself, made as the launcher makes it and read back by another program.
    @Test(.enabled(if: Parts.has("xorriso"), "xorriso is missing"), arguments: ["cidata", "config-2"])
    func makesADiskThatBothKindsOfGuestsRead(_ label: String) throws {
        let userData = "#cloud-config\n" + String(repeating: "# filling\n", count: 5000)
        _ = scratch.file("u", userData)
        _ = scratch.file("n", "version: 2\n")
        let plan = try Samples.plan("--run-dir", "\(scratch.path)/run", "--seed-label", label, "x") {
            $0.seed.userData = FileContent(Array(userData.utf8), from: "\(scratch.path)/u")
            $0.seed.networkConfig = FileContent(Array("version: 2\n".utf8))
        }
        let effects = plan.effects.filter {
            switch $0 {
            case .folder(let folder): folder.path.hasPrefix(scratch.path)
            case .file(let file): file.path.hasPrefix(scratch.path)
            case .seed(let seed): seed.path.hasPrefix(scratch.path)
            default: false
            }
        }
        let ledger = try Ledger(plan.folders.ledger)
        let log = Log(verbosity: .quiet, json: false)
        try EffectMaker.make(effects, ledger: ledger, loop: try EventLoop(), folders: plan.folders, log: log)
        let out = "\(scratch.path)/out"
        let outcome = try run(
            "xorriso", ["-indev", plan.folders.seed, "-osirrox", "on", "-pvd_info", "-extract", "/", out])
        #expect(outcome.code == 0)
        #expect((outcome.output + outcome.errors).contains("Volume Id    : \(label)"))
        for name in ["user-data", "openstack/latest/user_data"] {
            #expect(FileTree(root: out).text("/\(name)") == userData)
        }
        #expect(FileTree(root: out).text("/network-config") == "version: 2\n")
        #expect(try Files.status(plan.folders.seed).st_mode & 0o777 == 0o600)
        #expect(ledger.unwind() == [])
        #expect(Files.names("\(scratch.path)/run") == [])
    }
}
