import Glibc
import Model
import System

extension Effect.SwitchFiles: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        try attempt("make", path) { () throws(Errno) in try Files.makeFolders(path, mode: 0o700) }
    }

    /// Snabb processes leave them when they are killed together with those that would clean up after them.
    package func undo() {
        for process in Files.names(path) {
            let folder = "\(path)/\(process)/group/dma"
            // Each of its hugepages is a file, and a link to it here.
            for name in Files.names(folder) {
                guard let target = Files.linkTarget("\(folder)/\(name)"),
                    target.hasPrefix(MachinePaths.snabbHugepages + "/")
                else { continue }
                unlink(target)
            }
        }
        Files.removeTree(path)
    }
}
