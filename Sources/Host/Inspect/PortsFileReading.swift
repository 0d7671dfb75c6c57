import Model
import System
import Values

extension PortsFile {
    private static let most = 1 << 20

    package static func read(_ path: String) throws(Failure) -> [PortRequest] {
        let bytes: [UInt8]
        do throws(Errno) { bytes = try Files.read(path, limit: most) } catch {
            throw Failure(.usage, "read --ports-file", path, error)
        }
        return try parse(bytes, path: path)
    }
}
