import CLoad
import Glibc
import Model
import Values

/// A digest that is not finished, and how far it has come: plain bytes, so that a killed launcher's successor goes on.
package struct DigestState: Codable {
    var algorithm: DigestAlgorithm
    var offset: UInt64
    var state: String
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
        if let why = cload_crypto() {
            throw Failure(.host, "load", "libcrypto", String(cString: why), remedy: "apt-get install libssl3")
        }
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
