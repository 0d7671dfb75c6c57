import CLinux
import Model
import System
import Values

extension Effect.InterfaceUp: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        try attempt("bring up", name) { () throws(Errno) in try Errno.check { clinux_interface_set_up(name, 1) } }
    }

    package func undo() throws(Failure) {
        try giveBack("take down", name, unless: [.noDevice]) { clinux_interface_set_up(name, 0) }
    }
}
