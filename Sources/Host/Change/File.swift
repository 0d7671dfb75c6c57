import Model
import System

extension Effect.File: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        guard let content, let mode else { return }
        let write = maker.folders.keeps(path) ? Files.replace : Files.create
        try attempt("write", path) { () throws(Errno) in try write(path, content.bytes, UInt32(mode)) }
    }
}
