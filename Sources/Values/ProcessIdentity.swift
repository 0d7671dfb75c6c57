/// A process by what stays true of it: its pid can be given to another, its start time with it can't.
package struct ProcessIdentity: Codable, Equatable {
    package var pid: Int32
    package var startTime: UInt64

    package init(pid: Int32, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }
}
