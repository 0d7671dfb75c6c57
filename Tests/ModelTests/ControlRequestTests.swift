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

/// What goes over the wire between a command and a launcher, which may be of different versions: these bytes stay.
struct ControlRequestTests {
    private static let lines: [(ControlRequest, String)] = [
        (.status, #"{"verb":"status"}"#), (.ports, #"{"verb":"ports"}"#), (.streams, #"{"verb":"streams"}"#),
        (.ssh, #"{"verb":"ssh"}"#), (.console, #"{"verb":"console"}"#),
        (.stop(now: true), #"{"now":true,"verb":"stop"}"#), (.stop(now: false), #"{"now":false,"verb":"stop"}"#),
        (.attach(stream: "serial"), #"{"stream":"serial","verb":"attach"}"#),
        (.resize(rows: 25, columns: 80), #"{"columns":80,"rows":25,"verb":"resize"}"#),
    ]

    @Test func eachRequestIsItsLine() throws {
        for (request, line) in ControlRequestTests.lines {
            #expect(request.line == Array("\(line)\n".utf8))
            #expect(try JSON(parsing: line).decode(ControlRequest.self) == request)
        }
    }

    /// What another version leaves out or adds.
    @Test(arguments: [
        (#"{"verb":"stop"}"#, ControlRequest.stop(now: false)), (#"{"verb":"stop","now":1}"#, .stop(now: false)),
        (#"{"verb":"stop","now":true,"why":"so"}"#, .stop(now: true)), (#"{"verb":"attach"}"#, .attach(stream: "")),
        (#"{"verb":"resize","rows":"many"}"#, .resize(rows: 0, columns: 0)),
    ])
    func whatIsMissingHasAMeaning(_ line: String, _ request: ControlRequest) throws {
        #expect(try JSON(parsing: line).decode(ControlRequest.self) == request)
    }

    @Test func whatNobodyKnowsIsNamed() throws {
        let error = expectThrown(ControlRequest.Unknown.self) {
            try JSON(parsing: #"{"verb":"dance"}"#).decode(ControlRequest.self)
        }
        #expect(error?.verb == "dance")
        #expect(throws: (any Error).self) { try JSON(parsing: "[]").decode(ControlRequest.self) }
    }

    @Test func eachAnswerIsItsLine() throws {
        #expect(try JSON(encoding: ControlAnswer.Outcome()).text == "{}")
        #expect(
            try JSON(encoding: ControlAnswer.Outcome(error: "no such stream")).text == #"{"error":"no such stream"}"#)
        #expect(try JSON(encoding: ControlAnswer.Streams(streams: ["screen"])).text == #"{"streams":["screen"]}"#)
        #expect(try JSON(encoding: ControlAnswer.End(ended: "well", code: 0)).text == #"{"code":0,"ended":"well"}"#)
        let place = ControlAnswer.SSH(host: "10.0.2.15", port: 22, knownHosts: "/k")
        #expect(try JSON(encoding: place).text == #"{"host":"10.0.2.15","knownHosts":"/k","port":22}"#)
        #expect(
            try JSON(encoding: ControlAnswer.SSH(waiting: "it is starting")).text == #"{"waiting":"it is starting"}"#)
    }
}
