import Glibc
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

@Suite struct EventLoopTests {
    /// Two pipes say something in the same turn. The handler that is called first closes the other one, and a new pipe,
    /// with nothing in it, gets its numbers: what was said of the old one is none of its business.
    @Test func theEventOfAClosedDescriptorIsNotItsSuccessors() throws {
        var reused = 0
        for _ in 0..<40 {
            let loop = try EventLoop()
            var pipes = try (0..<2).map { _ in try Descriptor.pipe() }
            defer { for pipe in pipes { for end in [pipe.reading, pipe.writing] { close(end) } } }
            var (calls, wrongCalls) = (0, 0)
            for (index, pipe) in pipes.enumerated() {
                try Descriptor.write(1, to: pipe.writing)
                loop.watch(pipe.reading, for: .readable) { _ in
                    calls += 1
                    let other = pipes[1 - index]
                    loop.unwatch(other.reading)
                    close(other.reading)
                    close(other.writing)
                    pipes[1 - index] = try Descriptor.pipe()
                    if pipes[1 - index].reading == other.reading { reused += 1 }
                    loop.watch(other.reading, for: .readable) { _ in wrongCalls += 1 }
                }
            }
            try loop.drain()
            #expect(calls == 1)
            #expect(wrongCalls == 0)
        }
        #expect(reused > 0)
    }

    /// What is watched anew within the turn still hears of what there is, in the next one.
    @Test func aWatchThatBeginsAnewMissesNothing() throws {
        let loop = try EventLoop()
        let pipe = try Descriptor.pipe()
        defer { for end in [pipe.reading, pipe.writing] { close(end) } }
        var calls = 0
        try Descriptor.write(1, to: pipe.writing)
        loop.watch(pipe.reading, for: .readable) { _ in
            loop.watch(pipe.reading, for: .readable) { _ in calls += 1 }
        }
        try loop.drain()
        try loop.drain()
        #expect(calls == 1)
    }

    /// SIGCHLD and the child's own descriptor tell of the same end in one turn: it is told once, and with its code,
    /// also when its handler at once starts the next child.
    @Test func eachEndIsToldOnce() throws {
        let loop = try EventLoop()
        var ends: [String] = []
        func start(_ left: Int) throws {
            try Command(program: "/bin/sh", arguments: ["-c", "exit 7"]).start(in: loop) { status in
                ends.append("\(status)")
                if left > 1 { try start(left - 1) }
            }
        }
        try start(20)
        try loop.run { ends.count == 20 }
        try loop.drain()
        #expect(ends == Array(repeating: "exit code 7", count: 20))
    }

    /// A reader that is called although there is nothing returns, rather than wait for what may never come.
    @Test func nothingThatTheLoopReadsBlocks() throws {
        let loop = try EventLoop()
        let job = try Job(
            Command(program: "/bin/sh", arguments: ["-c", "sleep 0.2; echo done"]), in: loop, limit: .seconds(30),
            kind: .host)
        #expect(try job.finish(.host, "wait for", "it") == Array("done\n".utf8))
        let pipe = try Descriptor.pipe()
        let reading = Descriptor(pipe.reading)
        defer { close(pipe.writing) }
        try reading.setNonBlocking()
        #expect(try reading.readPresent(atMost: 10) == nil)
    }
}

extension Descriptor {
    fileprivate static func write(_ byte: UInt8, to raw: Int32) throws {
        var byte = byte
        try Errno.check { Glibc.write(raw, &byte, 1) }
    }
}
