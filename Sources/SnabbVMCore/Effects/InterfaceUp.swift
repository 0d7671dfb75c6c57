extension Effect {
    struct InterfaceUp: EffectValue {
        var name: String

        var shellText: String { "ip link set \(name.shellQuoted) up" }
        func undoText(_ folders: MachinePaths) -> String? { "ip link set \(name.shellQuoted) down" }
    }

    static func interfaceUp(name: String) -> Effect { .interfaceUp(InterfaceUp(name: name)) }
}
