import Glibc
import System
import Values

/// Looks whether a list of checksums was signed by a key of the user's keyring: with gpgv, which knows how.
extension FetchWorker {
    /// What was signed of the list. `beside` reads the file with this suffix, if there is one.
    func signed(
        _ list: [UInt8], by keyring: String, named name: String, beside: (String) throws -> [UInt8]?
    ) throws -> [UInt8] {
        guard let gpgv = request.gpgv else { throw Failure.missing("gpgv", package: "gpgv") }
        let isInline = String(decoding: list.prefix(64 << 10), as: UTF8.self).contains(ChecksumList.signedMark)
        if isInline { return try verify(name, keyring, gpgv, ["--output", "-"], [list]) }
        // How those who publish such lists name the signature beside them.
        let suffixes = [".gpg", ".sign", ".asc", ".sig"]
        var signature: [UInt8] = []
        for suffix in suffixes where signature.isEmpty { signature = try beside(suffix) ?? [] }
        if signature.isEmpty {
            throw Failure(
                .checksum, "trust", name, "there is no signature beside it (\(suffixes.joined(separator: ", ")))",
                remedy: "leave out --keyring, or give a list that is signed")
        }
        _ = try verify(name, keyring, gpgv, [], [signature, list])
        return list
    }

    /// gpgv reads files by name.
    private func verify(
        _ name: String, _ keyring: String, _ gpgv: String, _ options: [String], _ contents: [[UInt8]]
    ) throws -> [UInt8] {
        var template = Array("/tmp/snabbvm-signature-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw Failure(.host, "make a folder in", "/tmp", Errno.last) }
        let folder = String(cString: made)
        defer { Files.removeTree(folder) }
        var command = Command(program: gpgv, arguments: ["--quiet", "--keyring", keyring] + options)
        command.environment = ["GNUPGHOME": folder, "LC_ALL": "C.UTF-8"]
        for (number, content) in contents.enumerated() {
            command.arguments.append("\(folder)/\(number)")
            try Files.create("\(folder)/\(number)", content, mode: 0o600)
        }
        let job = try Job(command, in: loop, limit: .seconds(30), kind: .checksum)
        do { return try job.finish(.checksum, "trust", name) } catch var failure as Failure {
            failure.cause = "no good signature of a key in \(keyring): \(failure.cause)"
            throw failure
        }
    }
}
