/// Which bytes of a file are there: ranges in order, none touching another.
package struct Spans: Equatable, Codable {
    private var there = RangeSet<UInt64>()

    init() {}

    /// As it stands in a record: pairs. What is no set of ranges is taken for nothing.
    package init(from decoder: any Decoder) throws {
        let pairs = try decoder.singleValueContainer().decode([[UInt64]].self)
        for pair in pairs where pair.count == 2 && pair[0] < pair[1] { insert(pair[0]..<pair[1]) }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(there.ranges.map { [$0.lowerBound, $0.upperBound] })
    }

    package var count: UInt64 { there.ranges.reduce(0) { $0 + $1.upperBound - $1.lowerBound } }

    /// How much is there from the beginning on without a gap.
    var prefix: UInt64 { there.ranges.first.map { $0.lowerBound == 0 ? $0.upperBound : 0 } ?? 0 }

    var end: UInt64 { there.ranges.last?.upperBound ?? 0 }

    mutating func cut(at end: UInt64) { there.remove(contentsOf: end..<UInt64.max) }

    mutating func insert(_ new: Range<UInt64>) { there.insert(contentsOf: new) }

    func contains(_ wanted: Range<UInt64>) -> Bool { RangeSet(wanted).isSubset(of: there) }

    /// The first gap at or after a place, which ends where the next range begins or at the limit.
    func gap(from place: UInt64, limit: UInt64) -> Range<UInt64>? {
        RangeSet(min(place, limit)..<limit).subtracting(there).ranges.first
    }
}
