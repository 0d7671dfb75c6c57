/// Which bytes of a file are there: ranges in order, none touching another.
package struct Spans: Equatable, Codable {
    private(set) var ranges: [Range<UInt64>] = []

    init() {}

    /// As it stands in a record: pairs. What is no set of ranges is taken for nothing.
    package init(from decoder: any Decoder) throws {
        let pairs = try decoder.singleValueContainer().decode([[UInt64]].self)
        for pair in pairs where pair.count == 2 && pair[0] < pair[1] { insert(pair[0]..<pair[1]) }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(ranges.map { [$0.lowerBound, $0.upperBound] })
    }

    package var count: UInt64 { ranges.reduce(0) { $0 + $1.upperBound - $1.lowerBound } }

    /// How much is there from the beginning on without a gap.
    var prefix: UInt64 { ranges.first.map { $0.lowerBound == 0 ? $0.upperBound : 0 } ?? 0 }

    mutating func insert(_ new: Range<UInt64>) {
        if new.isEmpty { return }
        let first = index { $0.upperBound >= new.lowerBound }
        var last = first
        var merged = new
        while last < ranges.count, ranges[last].lowerBound <= new.upperBound {
            merged = min(merged.lowerBound, ranges[last].lowerBound)..<max(merged.upperBound, ranges[last].upperBound)
            last += 1
        }
        ranges.replaceSubrange(first..<last, with: [merged])
    }

    func contains(_ wanted: Range<UInt64>) -> Bool {
        let place = index { $0.upperBound >= wanted.upperBound }
        return wanted.isEmpty || place < ranges.count && ranges[place].lowerBound <= wanted.lowerBound
    }

    /// The first gap at or after a place, which ends where the next range begins or at the limit.
    func gap(from place: UInt64, limit: UInt64) -> Range<UInt64>? {
        var start = place
        var next = index { $0.upperBound > start }
        while next < ranges.count, ranges[next].lowerBound <= start {
            start = ranges[next].upperBound
            next += 1
        }
        if start >= limit { return nil }
        return start..<(next < ranges.count ? min(limit, ranges[next].lowerBound) : limit)
    }

    /// The first range for which it is so; they are in order.
    private func index(where isSo: (Range<UInt64>) -> Bool) -> Int {
        var (low, high) = (0, ranges.count)
        while low < high {
            let middle = (low + high) / 2
            if isSo(ranges[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
