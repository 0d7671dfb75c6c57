import System
import Values

/// iproute2 and nftables, when there is no loop any more that would wait for them.
enum NetworkTools {
    @discardableResult
    static func run(
        _ program: String, _ arguments: [String], _ lines: [String], _ operation: String, _ subject: String,
        isChecked: Bool = true
    ) throws(Failure) -> [UInt8] {
        guard let path = Files.findProgramForRoot(program) else {
            throw Failure(.cleanup, operation, subject, "\(program) is not on PATH")
        }
        do {
            let loop = try EventLoop()
            let command = Command(program: path, arguments: arguments, environment: ["LC_ALL": "C"])
            let job = try Job(command, in: loop, limit: .seconds(30), kind: .cleanup, input: lines.text)
            try loop.run { job.hasEnded }
            if job.status == .code(0) || !isChecked { return job.output }
            throw Failure(.cleanup, operation, subject, Job.words(of: job.errors, status: job.status))
        } catch {
            throw Failure.from(error, operation, subject)
        }
    }
}
