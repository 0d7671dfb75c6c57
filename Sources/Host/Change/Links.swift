import Model
import System
import Values

extension Effect.Links: Performable {
    package func records(_ folders: MachinePaths) -> [Effect]? { undoneBy }

    /// One process for all that is to be done to the interfaces; it says which line was refused.
    package func make(_ maker: inout EffectMaker) throws {
        let command = Command(program: program, arguments: ["-batch", "-"], environment: ["LC_ALL": "C"])
        let job = try Job(command, in: maker.loop, limit: .seconds(30), kind: .network, input: lines.text)
        try maker.loop.run { job.hasEnded }
        if job.status == .code(0) { return }
        let words = job.errors.split(separator: "\n").map(String.init)
        let number = words.first { $0.hasPrefix("Command failed -:") }.flatMap { Int($0.dropFirst(17)) }
        let line = number.flatMap { lines.indices.contains($0 - 1) ? lines[$0 - 1] : nil } ?? "the network"
        let cause = words.filter { !$0.hasPrefix("Command failed") }.joined(separator: "\n")
        throw Failure(.network, "set up the network: ip", line, Job.words(of: cause, status: job.status))
    }

    package func undo() throws(Failure) {
        for effect in undoneBy.reversed() { try effect.undo() }
    }
}
