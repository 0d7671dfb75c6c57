import Glibc
import Model
import System
import Values

extension Effect.Seed: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        maker.begun.append(try BegunSeed(path, command, maker.loop))
    }
}

/// xorriso has all of its output written within 3 ms, and then sleeps for another 100 before it ends. An ISO says in its
/// volume descriptor how long it is: when that much is there the disk is whole, and the machine need not wait.
private final class BegunSeed: BegunEffect {
    private static let sizeField = 16 * 2048 + 80
    private let path: String
    private let loop: EventLoop
    private var written = 0
    private var head: [UInt8] = []
    private var job: Job!
    private let file: Descriptor

    init(_ path: String, _ command: Command, _ loop: EventLoop) throws {
        self.path = path
        self.loop = loop
        do throws(Errno) {
            file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
        } catch {
            throw Failure(.seed, "make", path, error)
        }
        job = try Job(command, in: loop, limit: .seconds(30), kind: .seed) { [self] bytes in
            if head.count < BegunSeed.sizeField + 4 { head += bytes }
            do throws(Errno) { try file.writeAll(bytes) } catch { throw Failure(.seed, "write", path, error) }
            written += bytes.count
        }
    }

    private var isWhole: Bool {
        guard head.count >= BegunSeed.sizeField + 4 else { return false }
        let blocks = (0..<4).reversed().reduce(0) { $0 << 8 | Int(head[BegunSeed.sizeField + $1]) }
        return blocks > 0 && written >= blocks * 2048
    }

    package func finish() throws {
        try loop.run { isWhole || job.hasEnded }
        if isWhole { return }
        try job.finish(.seed, "make the seed disk", path)
        throw Failure(.seed, "make the seed disk", path, "xorriso ended before it was whole")
    }
}
