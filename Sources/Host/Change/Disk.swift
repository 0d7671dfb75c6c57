import CLinux
import Model
import System
import Values

extension Effect.Disk: Performable {
    package func records(_ folders: MachinePaths) -> [Effect]? {
        (folders.keeps(path) ? [] : [.file(path: path)]) + [.file(path: Effect.unfinished(path))]
    }

    package func make(_ maker: inout EffectMaker) throws {
        try maker.begin(commands, making: path)
        let isKept = maker.folders.keeps(path)
        maker.begun.append {
            if let original, !original.isUnchanged {
                throw Failure(
                    .image, "copy", original.path, "somebody wrote to it meanwhile",
                    remedy: "end that first, and start again")
            }
            try Failure.naming(.image, "make", path, try finish(syncs: isKept))
        }
    }

    /// Gives the disk its name, which nobody else's file may have by now. A power cut leaves it whole, or not there.
    private func finish(syncs: Bool) throws(Errno) {
        let unfinished = Effect.unfinished(path)
        if syncs { try Files.sync(unfinished) }
        try Errno.check { clinux_rename_new(unfinished, path) }
        if syncs { try Files.sync(Files.folder(of: path)) }
    }
}

extension Effect.Disk.Original {
    /// Whether the file is as it was when it was looked at.
    fileprivate var isUnchanged: Bool {
        guard let now = try? Files.status(path) else { return false }
        return UInt64(now.st_size) == size && Files.modified(now) == modified
    }
}

extension Failure {
    /// To encrypt a disk, qemu-img measures how much processor time a key takes; where the clock says none, it gives up, and
    /// is run again.
    package var isMismeasured: Bool { cause.contains("Unable to get accurate CPU usage") }
    package static let mostRepetitions = 20
}

extension EffectMaker {
    /// The first of these programs runs beside others; those after it, when it is waited for.
    mutating func begin(_ commands: [Command], making subject: String) throws {
        let start = { [loop] (command: Command) in
            // A copy of a large image takes its time.
            try Job(command, in: loop, limit: .seconds(24 * 3600), kind: .image)
        }
        let first = try start(commands[0])
        begun.append {
            for (index, command) in commands.enumerated() {
                try EffectMaker.finish(index == 0 ? first : start(command), subject) { try start(command) }
            }
        }
    }

    private static func finish(_ job: Job, _ subject: String, again: () throws -> Job) throws {
        var job = job
        for repetition in 0... {
            do {
                try job.finish(.image, "make", subject)
                return
            } catch let failure as Failure {
                // The programs say it in words only.
                if failure.cause.contains(Errno.noSpace.description) {
                    throw Failure(.image, "make", subject, Errno.noSpace)
                }
                if failure.cause.contains(Failure.wrongPassphrase) { throw failure.forPassphrase }
                guard failure.isMismeasured, repetition < Failure.mostRepetitions else { throw failure }
                job = try again()
            }
        }
    }
}
