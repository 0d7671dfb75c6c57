import Foundation
import Testing

@testable import System

/// So many free hugepages, beside those that others have; at the end there are as many as before.
final class Hugepages {
    private static let setting = "/proc/sys/vm/nr_hugepages"
    static var total: Int { FileTree().number(setting) ?? 0 }
    static var free: Int { FileTree().number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") ?? -1 }

    private let before: Int
    private let lock: Int32

    /// One test at a time has them: the groups of tests run side by side.
    init(_ count: Int) throws {
        lock = open(Hugepages.setting, O_RDONLY | O_CLOEXEC)
        flock(lock, LOCK_EX)
        before = Hugepages.total
        set(Hugepages.total - Hugepages.free + count)
        try #require(Hugepages.free == count, "no hugepages to be had")
    }

    deinit {
        set(before)
        close(lock)
    }

    private func set(_ count: Int) {
        try? "\(count)".write(toFile: Hugepages.setting, atomically: false, encoding: .utf8)
    }
}
