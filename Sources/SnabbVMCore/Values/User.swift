/// A user to run a program as, without any right beyond; it can be the launcher's own.
struct User: Codable, Equatable {
    var uid: UInt32
    var gid: UInt32
    var groups: [UInt32] = []
}
