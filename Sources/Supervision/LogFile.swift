import Glibc
import System

/// The launcher's log as a file.
final class LogFile {
    private let descriptor: Descriptor

    init?(_ path: String) {
        guard let file = try? Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, mode: 0o600) else {
            return nil
        }
        descriptor = file
    }

    func write(_ line: String) { try? descriptor.writeAll(Array("\(line)\n".utf8)) }
}
