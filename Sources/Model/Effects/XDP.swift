extension Effect {
    /// A program in the interface's receive path, which stays there when who put it there is gone.
    package struct XDP: UnplannedEffect {
        package var interface: String
    }

    package static func xdp(interface: String) -> Effect { .xdp(XDP(interface: interface)) }
}
