extension Effect {
    /// Tables of nftables, of one name in these families, all made at once by what the program is told.
    struct Tables: EffectValue {
        var name: String
        var families: [String]
        var text: String?
        var program: String?
        /// The launcher's own, if nothing else is said.
        var namespace: UInt64?

        var shellText: String { "\(program ?? "nft") -f - <<'.'\n\(text ?? "")." }

        func undoText(_ folders: MachinePaths) -> String? {
            families.map { "\(program ?? "nft") delete table \($0) \(name)" }.joined(separator: "\n")
        }
    }

    static func tables(
        name: String, families: [String], text: String? = nil, program: String? = nil, namespace: UInt64? = nil
    ) -> Effect {
        .tables(Tables(name: name, families: families, text: text, program: program, namespace: namespace))
    }
}
