import CLinux
import Model
import System
import Values

extension Effect.XDP: Performable {
    package func undo() throws(Failure) {
        try giveBack("take the XDP program off", interface, unless: [.noDevice]) { clinux_xdp_detach(interface) }
        Files.removeTree("/sys/fs/bpf/snabb/\(interface)")
    }
}
