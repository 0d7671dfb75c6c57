import CLinux

extension Effect.XDP: Performable {
    func undo() throws(Failure) {
        try giveBack("take the XDP program off", interface, unless: [.noDevice]) { clinux_xdp_detach(interface) }
        Files.removeTree("/sys/fs/bpf/snabb/\(interface)")
    }
}
