extension Effect {
    /// A program in the interface's receive path, which stays there when who put it there is gone.
    struct XDP: UnplannedEffect {
        var interface: String
    }

    static func xdp(interface: String) -> Effect { .xdp(XDP(interface: interface)) }
}
