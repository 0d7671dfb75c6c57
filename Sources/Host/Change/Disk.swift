import Glibc
import Model
import System
import Values

extension Effect.Disk: Performable {
    package func records(_ folders: MachinePaths) -> [Effect] {
        (folders.keeps(path) ? [] : [.file(path: path)]) + [.file(path: Effect.unfinished(path))]
    }

    package func make(_ maker: inout EffectMaker) throws {
        maker.begun.append(try BegunDisk(path, commands, maker.loop))
    }
}

package final class BegunDisk: BegunEffect {
    /// Where it sees how fast this processor makes keys, qemu-img fails now and then: it measures a time of zero.
    private static let mismeasured = "Unable to get accurate CPU usage"
    private static let mostRepetitions = 20

    private let path: String?
    private var rest: ArraySlice<Command>
    private var job: Job
    private let loop: EventLoop

    init(_ path: String?, _ commands: [Command], _ loop: EventLoop) throws {
        self.path = path
        self.loop = loop
        rest = commands[...]
        job = try BegunDisk.start(commands[0], loop)
    }

    /// A copy of a large image takes its time.
    private static func start(_ command: Command, _ loop: EventLoop) throws -> Job {
        try Job(command, in: loop, limit: .seconds(24 * 3600), kind: .image)
    }

    package func finish() throws {
        while let command = rest.popFirst() {
            try finishJob(command)
            if let next = rest.first { job = try BegunDisk.start(next, loop) }
        }
        guard let path else { return }
        do throws(Errno) { try Errno.check { rename(Effect.unfinished(path), path) } } catch {
            throw Failure(.image, "make", path, error)
        }
    }

    private func finishJob(_ command: Command) throws {
        let subject = path ?? "the disk"
        for repetition in 0... {
            do {
                try job.finish(.image, "make", subject)
                return
            } catch let failure as Failure {
                // The programs say it in words only.
                if failure.cause.contains(Errno.noSpace.description) {
                    throw Failure(.image, "make", subject, Errno.noSpace)
                }
                let isByChance = failure.cause.contains(BegunDisk.mismeasured)
                guard isByChance, repetition < BegunDisk.mostRepetitions else { throw failure }
                job = try BegunDisk.start(command, loop)
            }
        }
    }
}
