import CLoad
import Glibc
import Model
import System
import Values

/// A digest that is not finished, and how far it has come: plain bytes, so that a killed launcher's successor goes on.
package struct DigestState: Codable {
    var algorithm: DigestAlgorithm
    var offset: UInt64 = 0
    var state = ""
}

extension DigestAlgorithm {
    fileprivate var kind: Int32 { self == .sha256 ? Int32(CDIGEST_SHA256) : Int32(CDIGEST_SHA512) }
}

package struct Digester {
    let algorithm: DigestAlgorithm
    private(set) var offset: UInt64 = 0
    private var state: [UInt8]

    package init(_ algorithm: DigestAlgorithm, from kept: DigestState? = nil) throws(Failure) {
        self.algorithm = algorithm
        state = [UInt8](repeating: 0, count: Int(CDIGEST_STATE))
        try Failure.refuse(cload_crypto(), "libcrypto", package: "libssl3")
        if let kept, kept.algorithm == algorithm, let bytes = [UInt8](hexadecimal: kept.state),
            bytes.count == state.count, cdigest_is_sound(algorithm.kind, bytes, kept.offset)
        {
            (state, offset) = (bytes, kept.offset)
        } else {
            cdigest_begin(algorithm.kind, &state)
        }
    }

    package mutating func add(_ bytes: UnsafeRawBufferPointer) {
        cdigest_add(algorithm.kind, &state, bytes.baseAddress, bytes.count)
        offset += UInt64(bytes.count)
    }

    var kept: DigestState { DigestState(algorithm: algorithm, offset: offset, state: state.hexadecimal) }

    package var digest: Digest {
        var (copy, result) = (state, [UInt8](repeating: 0, count: Int(CDIGEST_LONGEST)))
        let length = cdigest_finish(algorithm.kind, &copy, &result)
        return Digest(algorithm: algorithm, hex: Array(result.prefix(Int(length))).hexadecimal)
    }
}

extension Digest {
    /// Of all of a file; `tell` hears now and then how much of it was read.
    package init(
        of path: String, _ algorithm: DigestAlgorithm, tell: (_ share: Double) throws -> Void = { _ in }
    ) throws {
        var digester = try Digester(algorithm)
        let file = try HeldDescriptor(opening: path, O_RDONLY, .image, "read image")
        let size = max(1, file.size)
        lseek(file.raw, 0, SEEK_SET)
        while case let bytes = try Failure.naming(.image, "read image", path, try file.descriptor.read(atMost: 4 << 20)),
            !bytes.isEmpty
        {
            bytes.withUnsafeBytes { digester.add($0) }
            try tell(Double(digester.offset) / Double(size))
        }
        self = digester.digest
    }
}

/// Computes the digest of a file while it comes.
final class Digesting: Follower {
    private let part: PartialFile?
    private var digest: Digest?

    /// A partial file keeps how far it came, for whoever goes on.
    init(_ worker: FetchWorker, _ file: Int32, _ algorithm: DigestAlgorithm, of part: PartialFile? = nil) throws {
        self.part = part
        let kept = part?.digest.flatMap { $0.algorithm == algorithm ? $0 : nil }
        let settings = try JSON(encoding: kept ?? DigestState(algorithm: algorithm))
        try super.init(worker, .digest, settings, files: [file])
    }

    override func take(_ message: JSON) throws {
        if let state = message["state"] { part?.record.digest = try state.decode(DigestState.self) }
        digest = try message["digest"]?.decode(Digest.self) ?? digest
    }

    override func end(_ words: String?) throws {
        if let words { throw Failure(.image, "read image", worker.request.shown, words) }
    }

    func wait() throws -> Digest {
        try worker.loop.run { digest != nil }
        return digest!
    }
}

/// Reads a file as it comes, and tells its digest.
package enum DigestWorker {
    private static let keepEvery: UInt64 = 32 << 20

    package static func run(_ operand: String) throws -> Int32 {
        let begun = try JSON(parsing: operand).decode(DigestState.self)
        var file = FollowedFile()
        var digester = try Digester(begun.algorithm, from: begun)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 4096)
        defer { buffer.deallocate() }
        var kept = digester.offset
        while true {
            let count = try file.read(at: digester.offset, into: buffer)
            if count == 0 { break }
            digester.add(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            if digester.offset >= kept + keepEvery {
                kept = digester.offset
                sayMessage(["state": try JSON(encoding: digester.kept)])
            }
        }
        sayMessage(["digest": try JSON(encoding: digester.digest)])
        return 0
    }
}
