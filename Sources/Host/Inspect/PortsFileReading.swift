import Model
import System
import Values

extension PortsFile {
    private static let most = 1 << 20

    package static func read(_ path: String) throws(Failure) -> [PortRequest] {
        try parse(Failure.naming(.usage, "read --ports-file", path, try Files.read(path, limit: most)), path: path)
    }
}
