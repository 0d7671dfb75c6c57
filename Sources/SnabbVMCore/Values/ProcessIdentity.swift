/// A process by what stays true of it: its pid can be given to another, its start time with it can't.
struct ProcessIdentity: Codable, Equatable {
    var pid: Int32
    var startTime: UInt64
}
