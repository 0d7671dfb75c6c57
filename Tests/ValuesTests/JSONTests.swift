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

@Suite struct JSONTests {
    @Test(arguments: [
        "null", "true", "[]", "{}", "[1,-2,0]", #"{"a":{"b":[null,"x"]},"c":"d"}"#, "-9223372036854775808",
        #""\"\\\n\t\r\u0001é😀""#,
    ])
    func readsWhatItWrites(_ text: String) throws {
        let value = try JSON(parsing: text)
        #expect(try JSON(parsing: value.text) == value)
        #expect(try JSON(parsing: value.prettyText) == value)
    }

    @Test func readsEscapesAndNumbers() throws {
        #expect(try JSON(parsing: #""\u00e9\ud83d\ude00\/""#) == "é😀/")
        #expect(try JSON(parsing: "[1.5e3, 1E-1, 10]") == .array([.number(1500), .number(0.1), .integer(10)]))
        #expect(try JSON(parsing: " \n\t[ 1 , 2 ]\r\n") == [1, 2])
    }

    @Test(arguments: [
        "", " ", "nul", "tru", "01", "1.", "+1", "-", ".5", "1e", "[1,]", "[1", "{\"a\"}", "{\"a\":}", "{a:1}", "'x'",
        "\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\n\"", "[1] 2", "1e999", "\u{feff}1",
        "{,}",
    ])
    func refusesWhatIsNotJSON(_ text: String) {
        #expect(throws: JSONSyntaxError.self) { try JSON(parsing: text) }
    }

    @Test func refusesBrokenUTF8() {
        #expect(throws: JSONSyntaxError.self) { try JSON(parsing: [0x22, 0xff, 0xfe, 0x22]) }
    }

    /// A guest must not be able to overflow the launcher's stack.
    @Test func boundsNesting() {
        let deep = String(repeating: "[", count: 100_000)
        #expect(throws: JSONSyntaxError.self) { try JSON(parsing: deep) }
    }

    /// Whatever comes in, it is taken or refused, and what is taken comes out the same.
    @Test func mutatedTextNeverCrashes() {
        let seed = Array(#"{"return":{"a":[1,2.5,"x\u0041\n"],"b":null,"c":{"d":true}},"id":7}"#.utf8)
        var random = RandomBytes(seed: 42)
        var taken = 0
        for _ in 0..<20_000 {
            var bytes = seed
            for _ in 0...random.next(3) {
                switch random.next(3) {
                case 0: bytes[random.next(bytes.count)] = UInt8(random.next(256))
                case 1: bytes.remove(at: random.next(bytes.count))
                default: bytes.insert(seed[random.next(seed.count)], at: random.next(bytes.count))
                }
            }
            if let value = try? JSON(parsing: bytes) {
                taken += 1
                #expect((try? JSON(parsing: value.text)) == value)
            }
        }
        #expect(taken > 100)
    }

    struct Sample: Codable, Equatable {
        enum Kind: Codable, Equatable {
            case plain
            case with(number: Int, text: String?)
        }
        var kinds: [Kind]
        var optional: String?
        var nested: [String: [Int]]
        var ratio: Double
        var big: UInt64
    }

    @Test func carriesWhatTheCompilerWritesForCodable() throws {
        let sample = Sample(
            kinds: [.plain, .with(number: -3, text: nil), .with(number: 4, text: "x")], optional: nil,
            nested: ["a": [1, 2], "b": []], ratio: 2, big: 1 << 62)
        let text = try JSON(encoding: sample).text
        #expect(try JSON(parsing: text).decode(Sample.self) == sample)
    }

    @Test func saysWhatDoesNotFit() {
        #expect(throws: DecodingError.self) { try JSON(parsing: #"{"kinds":[]}"#).decode(Sample.self) }
        #expect(throws: DecodingError.self) { try JSON.integer(300).decode(UInt8.self) }
        #expect(throws: EncodingError.self) { try JSON(encoding: UInt64.max) }
    }
}
