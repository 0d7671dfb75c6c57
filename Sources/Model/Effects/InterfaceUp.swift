import Values

extension Effect {
    package struct InterfaceUp: EffectValue {
        package var name: String

        package var shellText: String { "ip link set \(name.shellQuoted) up" }
        package func undoText(_ folders: MachinePaths) -> String? { "ip link set \(name.shellQuoted) down" }
    }

    package static func interfaceUp(name: String) -> Effect { .interfaceUp(InterfaceUp(name: name)) }
}
