import Glibc
import Model
import System
import Values

extension Effect.Seed: Performable {
    /// Where an ISO's volume descriptor has the number of its blocks.
    private static let sizeField = 16 * 2048 + 80

    /// xorriso has all of its output written within 3 ms, and then sleeps for another 100 before it ends. An ISO says in its
    /// volume descriptor how long it is: when that much is there the disk is whole, and the machine need not wait.
    package func make(_ maker: inout EffectMaker) throws {
        let loop = maker.loop
        let file = try HeldDescriptor(opening: path, O_WRONLY | O_CREAT | O_EXCL, .seed, "make")
        var written = 0
        var head: [UInt8] = []
        let job = try Job(command, in: loop, limit: .seconds(30), kind: .seed) { bytes in
            if head.count < Self.sizeField + 4 { head += bytes }
            try Failure.naming(.seed, "write", path, try file.writeAll(bytes))
            written += bytes.count
        }
        let isWhole = {
            guard head.count >= Self.sizeField + 4 else { return false }
            let blocks = (0..<4).reversed().reduce(0) { $0 << 8 | Int(head[Self.sizeField + $1]) }
            return blocks > 0 && written >= blocks * 2048
        }
        maker.begun.append {
            try loop.run { isWhole() || job.hasEnded }
            if isWhole() { return }
            try job.finish(.seed, "make the seed disk", path)
            throw Failure(.seed, "make the seed disk", path, "xorriso ended before it was whole")
        }
    }
}
