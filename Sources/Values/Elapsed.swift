/// How long something took, and how long ago it was, in words.
package enum Elapsed {
    /// Both in nanoseconds since 1970.
    package static func age(since time: Int64, now: Int64) -> String {
        let seconds = max(0, now.subtractingReportingOverflow(time).partialValue) / 1_000_000_000
        if seconds < 3600 { return "\(seconds / 60) min ago" }
        return seconds < 172_800 ? "\(seconds / 3600) h ago" : "\(seconds / 86400) days ago"
    }

    package static func duration(_ seconds: Double) -> String {
        let whole = Int(seconds)
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
        return "\(whole / 3600) h \(whole / 60 % 60) min"
    }
}
