extension Effect {
    /// Tables of nftables, of one name in these families, all made at once by what the program is told.
    package struct Tables: EffectValue {
        package var name: String
        package var families: [String]
        package var text: String?
        package var program: String?
        /// The launcher's own, if nothing else is said.
        package var namespace: UInt64?

        package var shellText: String { "\(program ?? "nft") -f - <<'.'\n\(text ?? "")." }

        package func undoText(_ folders: MachinePaths) -> String? {
            families.map { "\(program ?? "nft") delete table \($0) \(name)" }.joined(separator: "\n")
        }
    }

    package static func tables(
        name: String, families: [String], text: String? = nil, program: String? = nil, namespace: UInt64? = nil
    ) -> Effect {
        .tables(Tables(name: name, families: families, text: text, program: program, namespace: namespace))
    }
}
