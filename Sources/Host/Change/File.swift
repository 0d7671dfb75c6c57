import Model
import System

extension Effect.File: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        guard let content, let mode else { return }
        let isKept = maker.folders.keeps(path)
        // What is kept is only written anew where it says something new.
        if isKept, (try? Files.read(path, limit: content.bytes.count + 1)) == content.bytes { return }
        try attempt("write", path) { () throws(Errno) in
            if isKept {
                try Files.replace(path, content.bytes, mode: UInt32(mode), syncs: true)
            } else {
                try Files.create(path, content.bytes, mode: UInt32(mode))
            }
        }
    }
}
