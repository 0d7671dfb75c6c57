import Glibc
import Model
import System

extension Effect.Pipe: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        try attempt("make", path) { () throws(Errno) in
            try Errno.check { mkfifo(path, 0o600) }
            try Files.give(path, to: owner)
        }
    }
}
