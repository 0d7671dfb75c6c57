import Values

extension Effect {
    package struct Tap: EffectValue {
        package var name: String
        package var isMultiQueue: Bool
        /// The launcher's own, if nothing else is said.
        package var namespace: UInt64?

        package var shellText: String {
            "ip tuntap add dev \(name.shellQuoted) mode tap" + (isMultiQueue ? " multi_queue" : "")
        }

        package func undoText(_ folders: MachinePaths) -> String? { "ip link delete \(name.shellQuoted)" }
    }

    package static func tap(name: String, isMultiQueue: Bool, namespace: UInt64? = nil) -> Effect {
        .tap(Tap(name: name, isMultiQueue: isMultiQueue, namespace: namespace))
    }
}
