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

@Suite struct YAMLTests {
    @Test func readsWhatCloudConfigsHold() throws {
        let text = """
            #cloud-config
            users: &all
              - {name: a, sudo: null, uid: 1000}
              - 'quoted: text'
            copy: *all
            ratio: 0.5
            on: true
            "yes": "true"
            text: |
              two
              lines

            """
        let value = try YAML.parse(Array(text.utf8))
        #expect(value["users"] == [["name": "a", "sudo": .null, "uid": 1000], "quoted: text"])
        #expect(value["copy"] == value["users"])
        #expect(value["ratio"] == .number(0.5))
        #expect(value["yes"] == "true")
        #expect(value["text"] == "two\nlines\n")
    }

    @Test(arguments: [
        ("a: [1", 1), ("a: 1\n b: 2", 2), ("a:\n\t- 1", 2), ("x: *nowhere", 1), ("'open", 1), ("a: 1\n---\nb: [", 3),
    ])
    func placesWhatIsWrong(_ text: String, _ line: Int) {
        let error = expectThrown(YAMLSyntaxError.self) { try YAML.parse(Array(text.utf8)) }
        #expect((error?.line ?? 0) >= line)
    }

    /// Nine lines that stand for a billion values.
    @Test func boundsWhatAliasesMultiply() {
        var text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        for level in 1...9 {
            let aliases = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ",")
            text += "a\(level): &a\(level) [\(aliases)]\n"
        }
        // Values share what they have in common, so reading it is cheap; what must not happen is writing it out.
        #expect(throws: Never.self) { try YAML.parse(Array(text.utf8)) }
        let deep = String(repeating: "[", count: 5000)
        #expect(throws: YAMLSyntaxError.self) { try YAML.parse(Array(deep.utf8)) }
    }

    @Test func mutatedTextNeverCrashes() {
        let seed = Array("#cloud-config\nusers: &u\n  - {name: a, keys: [x, 'y']}\nc: *u\nt: |\n  x\n".utf8)
        var random = RandomBytes(seed: 7)
        for _ in 0..<20_000 {
            var bytes = seed
            for _ in 0...random.next(3) { bytes[random.next(bytes.count)] = UInt8(random.next(256)) }
            _ = try? YAML.parse(bytes)
        }
    }
}
