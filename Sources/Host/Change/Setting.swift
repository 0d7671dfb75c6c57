import Model
import System
import Values

extension Effect.Setting: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        try attempt("write", path) { () throws(Errno) in try Files.set(path, value) }
    }

    /// What somebody else has changed since is theirs.
    package func undo() throws(Failure) {
        guard try isHere(namespace, path), FileTree().line(path) == value else { return }
        try Failure.naming(.cleanup, "write", path, try Files.set(path, before)) { _ in "echo \(before) > \(path)" }
    }
}
