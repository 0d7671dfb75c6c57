import Values

/// Users, and groups of the same numbers, that machines can have for themselves.
package struct UserRange: Codable, Equatable, CustomStringConvertible {
    package var first: UInt32
    package var last: UInt32

    package init(_ first: UInt32, _ last: UInt32) { (self.first, self.last) = (first, last) }

    /// `FIRST-LAST`; root is nobody's own.
    package init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false).map { UInt32($0) }
        guard parts.count == 2, let first = parts[0], let last = parts[1], 0 < first, first <= last, last < .max else {
            return nil
        }
        self.init(first, last)
    }

    package var description: String { "\(first)-\(last)" }

    /// What neither people, systemd nor containers have.
    package static let usual = UserRange(1_900_000_000, 1_900_065_535)

    package func isWithin(_ other: UserRange) -> Bool { first >= other.first && last <= other.last }

    /// As long as it is not known who else takes one of them.
    private static let mostTried = 64

    /// From the one that follows from the name on.
    package func inOrder(for name: String) -> [UInt32] {
        let count = UInt64(last - first) + 1
        let start = stableDigest("user", name) % count
        return (0..<min(count, UInt64(UserRange.mostTried))).map { first + UInt32((start + $0) % count) }
    }
}
