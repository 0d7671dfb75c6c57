import CLinux
import Glibc
import Values

/// A program whose output is wanted: runs while others do, until someone waits for it.
package final class Job {
    package private(set) var output: [UInt8] = []
    package private(set) var errors = ""
    package private(set) var status: ExitStatus?
    private(set) var timedOut = false
    private var openPipes = 0
    private let loop: EventLoop
    private let command: Command
    private let onEnd: () throws -> Void
    package private(set) var pid: pid_t = 0
    private var timer: EventLoop.Timer?

    /// `onOutput`, when given, sees the output as it comes in place of having it gathered; `onEnd` is for who does not
    /// wait with `finish`.
    package init(
        _ command: Command, in loop: EventLoop, limit: Duration, kind: FailureKind,
        input: String? = nil, onOutput: (([UInt8]) throws -> Void)? = nil, onEnd: @escaping () throws -> Void = {}
    ) throws {
        self.onEnd = onEnd
        self.loop = loop
        self.command = command
        let (out, outWriting) = try Descriptor.pipe()
        let (err, errWriting) = try Descriptor.pipe()
        defer { for theirs in [outWriting, errWriting] { close(theirs) } }
        try gather(out) { [unowned self] in if let onOutput { try onOutput($0) } else { output += $0 } }
        try gather(err) { [unowned self] in
            if errors.utf8.count < 65536 { errors += String(decoding: $0, as: UTF8.self) }
        }
        let given = try input.map(Job.readable)
        pid = try command.start(
            in: loop, input: given?.raw, output: outWriting, error: errWriting, kind: kind
        ) { [self] in
            loop.cancel(timer)
            status = $0
            if hasEnded { try onEnd() }
        }
        timer = loop.after(limit) { [unowned self] in
            timedOut = true
            kill(pid, SIGKILL)
        }
    }

    /// A file without a name.
    private static func readable(_ text: String) throws(Errno) -> HeldDescriptor {
        let file = Descriptor(try Errno.check { clinux_memory_file("input") })
        try file.writeAll(Array(text.utf8))
        lseek(file.raw, 0, SEEK_SET)
        return HeldDescriptor(file)
    }

    private func gather(_ raw: Int32, _ take: @escaping ([UInt8]) throws -> Void) throws(Errno) {
        let end = HeldDescriptor(Descriptor(raw))
        try end.descriptor.setNonBlocking()
        openPipes += 1
        loop.watch(raw, for: .readable) { [self] _ in
            guard let bytes = try end.descriptor.readPresent(atMost: 65536) else { return }
            if !bytes.isEmpty { return try take(bytes) }
            // The descriptor goes with the watch that holds it.
            loop.unwatch(raw)
            openPipes -= 1
            if hasEnded { try onEnd() }
        }
    }

    package var hasEnded: Bool { status != nil && openPipes == 0 }

    /// Waits for the end; anything but success is a failure that shows the program's last words.
    @discardableResult
    package func finish(_ kind: FailureKind, _ operation: String, _ subject: String) throws -> [UInt8] {
        try loop.run { hasEnded }
        if timedOut { throw Failure(kind, operation, subject, "\(command.name) did not finish in time") }
        if status == .code(0) { return output }
        throw Failure(kind, operation, subject, Job.words(of: errors, status: status))
    }

    package static func words(of errors: String, status: ExitStatus?) -> String {
        let lines = errors.split(separator: "\n").suffix(3).map { String($0).trimmed }.filter { !$0.isEmpty }
        return lines.isEmpty ? (status.map { "\($0)" } ?? "no answer") : lines.joined(separator: " / ")
    }
}
