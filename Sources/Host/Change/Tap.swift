import CLinux
import Glibc
import Model
import System
import Values

extension Effect.Tap: Performable {
    package func records(_ folders: MachinePaths) -> [Effect]? {
        [.tap(name: name, isMultiQueue: isMultiQueue, namespace: HostFacts.Network.currentNamespace)]
    }

    package func make(_ maker: inout EffectMaker) throws {
        try attempt("make tap", name) { () throws(Errno) in
            try Errno.check { clinux_tap_make(name, isMultiQueue ? 1 : 0) }
            try Errno.check { clinux_interface_set_up(name, 1) }
        }
    }

    package func undo() throws(Failure) {
        guard try isHere(namespace, name), if_nametoindex(name) != 0 else { return }
        try giveBack("remove tap", name, unless: [.noDevice]) { clinux_tap_remove(name, isMultiQueue ? 1 : 0) }
    }
}
