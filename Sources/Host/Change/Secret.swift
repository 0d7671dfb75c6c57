import Model
import System

extension Effect.Secret: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        try attempt("copy the passphrase to", path) { () throws(Errno) in
            try Files.create(path, try Files.read(source, limit: 1 << 20), mode: 0o400)
            try Files.give(path, to: owner)
        }
    }
}
