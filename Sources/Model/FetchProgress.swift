/// How far an image is here.
package struct FetchProgress: Codable, Equatable {
    package enum State: String, Codable { case fetching, stalled, checking, unpacking, whole, wrong }

    package var state = State.fetching
    package var done: UInt64 = 0
    package var total: UInt64?
    /// Bytes a second, of late.
    package var rate: UInt64 = 0

    package init(state: State = State.fetching, done: UInt64 = 0, total: UInt64? = nil, rate: UInt64 = 0) {
        self.state = state
        self.done = done
        self.total = total
        self.rate = rate
    }

    /// Seconds.
    package var left: UInt64? {
        guard let total, rate > 0, state == .fetching else { return nil }
        return (total - min(total, done) + rate - 1) / rate
    }
}
