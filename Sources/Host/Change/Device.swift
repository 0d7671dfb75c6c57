import CLinux
import Glibc
import Model
import System

extension Effect.Device: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        let parts = numbers.split(separator: ":").compactMap { UInt32($0) }
        try attempt("make", path) { () throws(Errno) in
            guard parts.count == 2 else { throw Errno(code: EINVAL) }
            try Errno.check { clinux_device_file(path, parts[0], parts[1]) }
        }
    }
}
