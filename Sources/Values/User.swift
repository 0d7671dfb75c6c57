/// A user to run a program as, without any right beyond; it can be the launcher's own.
package struct User: Codable, Equatable {
    package var uid: UInt32
    package var gid: UInt32
    package var groups: [UInt32] = []

    package static let root = User(uid: 0, gid: 0)

    package init(uid: UInt32, gid: UInt32, groups: [UInt32] = []) {
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }
}
