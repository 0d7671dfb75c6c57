import Glibc
import Model
import System
import Values

extension Effect.Folder: Performable {
    package func records(_ folders: MachinePaths) -> [Effect]? {
        if path == folders.keptFolder { return [] }
        if isShared { return Files.missingFolders(path).map { .folder(path: $0, isShared: true) } }
        // Also what a crash of the whole host left there, whose ledger was in memory.
        let leftovers = path == folders.disks ? folders.diskFiles : path == folders.run ? [folders.servedImage] : []
        return [.folder(path: path, isShared: false)] + leftovers.map { .file(path: $0) }
    }

    package func make(_ maker: inout EffectMaker) throws {
        try attempt("make", path) { () throws(Errno) in
            try Files.makeFolders(path, mode: mode_t(mode ?? 0o755))
            try Files.give(path, to: owner)
        }
        guard path == maker.folders.disks, access(maker.folders.scratchNote, F_OK) == 0 else { return }
        for leftover in maker.folders.diskFiles + [maker.folders.scratchNote] { unlink(leftover) }
    }

    package func undo() throws(Failure) {
        let gone: [Errno] = isShared ? [.notFound, .notEmpty, .exists, .busy] : [.notFound]
        try giveBack("remove", path, unless: gone) { rmdir(path) }
    }
}
