/// How far an image is here.
struct FetchProgress: Codable, Equatable {
    enum State: String, Codable { case fetching, stalled, checking, unpacking, whole, wrong }

    var state = State.fetching
    var done: UInt64 = 0
    var total: UInt64?
    /// Bytes a second, of late.
    var rate: UInt64 = 0

    /// Seconds.
    var left: UInt64? {
        guard let total, rate > 0, state == .fetching else { return nil }
        return (total - min(total, done) + rate - 1) / rate
    }
}
