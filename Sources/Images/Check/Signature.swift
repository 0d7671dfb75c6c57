import Glibc
import System
import Values

/// Looks whether a list of checksums was signed by a key of the user's keyring: with gpgv, which knows how.
struct Signature {
    private let keyring: String
    private let gpgv: String
    private let loop: EventLoop

    init(_ keyring: String, gpgv: String?, loop: EventLoop) throws(Failure) {
        guard let gpgv else { throw Failure.missing("gpgv", package: "gpgv") }
        self.keyring = keyring
        self.gpgv = gpgv
        self.loop = loop
    }

    /// How those who publish such lists name the signature beside them.
    private static let suffixes = [".gpg", ".sign", ".asc", ".sig"]

    /// What was signed of the list. `beside` reads the file with this suffix, if there is one.
    func verified(_ list: [UInt8], named name: String, beside: (String) throws -> [UInt8]?) throws -> [UInt8] {
        let isInline = String(decoding: list.prefix(64 << 10), as: UTF8.self).contains(
            "-----BEGIN PGP SIGNED MESSAGE-----")
        if isInline { return try run(name, [list]) { ["--output", "-", $0[0]] } }
        var signature: [UInt8] = []
        for suffix in Signature.suffixes where signature.isEmpty { signature = try beside(suffix) ?? [] }
        if signature.isEmpty {
            throw Failure(
                .checksum, "trust", name,
                "there is no signature beside it (\(Signature.suffixes.joined(separator: ", ")))",
                remedy: "leave out --keyring, or give a list that is signed")
        }
        _ = try run(name, [signature, list]) { [$0[0], $0[1]] }
        return list
    }

    /// gpgv reads files by name.
    private func run(_ name: String, _ contents: [[UInt8]], _ words: ([String]) -> [String]) throws -> [UInt8] {
        var template = Array("/tmp/snabbvm-signature-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw Failure(.host, "make a folder in", "/tmp", Errno.last) }
        let folder = String(cString: made)
        let paths = contents.indices.map { "\(folder)/\($0)" }
        defer {
            for path in paths { unlink(path) }
            rmdir(folder)
        }
        for (path, content) in zip(paths, contents) { try Files.create(path, content, mode: 0o600) }
        var command = Command(program: gpgv, arguments: ["--quiet", "--keyring", keyring] + words(paths))
        command.environment = ["GNUPGHOME": folder, "LC_ALL": "C.UTF-8"]
        let job = try Job(command, in: loop, limit: .seconds(30), kind: .checksum)
        do { return try job.finish(.checksum, "trust", name) } catch var failure as Failure {
            failure.cause = "no good signature of a key in \(keyring): \(failure.cause)"
            throw failure
        }
    }
}
