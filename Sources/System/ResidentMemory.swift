import CLinux
import Glibc

package enum ResidentMemory {
    /// Lets go of what only the start needed: room on the heap and the stack, and code, which comes back from the page
    /// cache when it is used again. What isn't no longer counts as this process's memory for as long as the machine runs,
    /// which can be years.
    package static func release() {
        clinux_release_unused()
        for line in (FileTree().text("/proc/self/maps") ?? "").split(separator: "\n") {
            // Code alone: it is never written to, where data may hold what the dynamic linker changed.
            let fields = line.split(separator: " ")
            guard fields.count > 5, fields[1] == "r-xp", fields[5].hasPrefix("/") else { continue }
            let ends = fields[0].split(separator: "-").compactMap { UInt(String($0), radix: 16) }
            guard ends.count == 2 else { continue }
            madvise(UnsafeMutableRawPointer(bitPattern: ends[0]), Int(ends[1] - ends[0]), MADV_DONTNEED)
        }
    }
}
