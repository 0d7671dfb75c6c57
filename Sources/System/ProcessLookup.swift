import Values

extension ProcessIdentity {
    package init?(pid: Int32) {
        guard let startTime = ProcessIdentity.startTime(of: pid) else { return nil }
        self.init(pid: pid, startTime: startTime)
    }

    package var isAlive: Bool { ProcessIdentity.startTime(of: pid) == startTime }

    /// Field 22 of /proc/PID/stat; the name before it can hold anything, but ends with the last parenthesis.
    private static func startTime(of pid: Int32) -> UInt64? {
        guard let stat = FileTree().text("/proc/\(pid)/stat"), let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[end...].split(separator: " ")
        guard fields.count > 20, fields[1] != "Z" else { return nil }
        return UInt64(fields[20])
    }
}
