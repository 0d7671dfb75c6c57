/// How far an image is here.
package struct FetchProgress: Codable, Equatable {
    package enum State: String, Codable { case fetching, stalled, checking, unpacking, whole, wrong }

    package var state = State.fetching
    package var done: UInt64 = 0
    package var total: UInt64?
    /// Bytes a second, of late.
    package var rate: UInt64 = 0

    /// Seconds.
    package var left: UInt64? {
        guard let total, rate > 0, state == .fetching else { return nil }
        return (total - min(total, done) + rate - 1) / rate
    }
}
