extension Effect {
    struct Tap: EffectValue {
        var name: String
        var isMultiQueue: Bool
        /// The launcher's own, if nothing else is said.
        var namespace: UInt64?

        var shellText: String {
            "ip tuntap add dev \(name.shellQuoted) mode tap" + (isMultiQueue ? " multi_queue" : "")
        }

        func undoText(_ folders: MachinePaths) -> String? { "ip link delete \(name.shellQuoted)" }
    }

    static func tap(name: String, isMultiQueue: Bool, namespace: UInt64? = nil) -> Effect {
        .tap(Tap(name: name, isMultiQueue: isMultiQueue, namespace: namespace))
    }
}
