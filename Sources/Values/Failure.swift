/// What a failure is about, which decides the exit code. The README lists them for users.
package enum FailureKind: Int32, CaseIterable, Codable {
    case unexpected = 1
    case usage = 2
    case host = 3
    case image = 4
    case seed = 5
    case network = 6
    case busy = 7
    case qemu = 8
    case noMachine = 9
    case guestCutOff = 10
    case noSpace = 11
    case cleanup = 12
    case port = 13
    case fetch = 14
    case checksum = 15
    /// Between the processes that bring an image: an archive lacks a file that need not be there.
    case noMember = 100

    /// For users.
    package static var shown: [FailureKind] { allCases.filter { $0 != .noMember } }

    package var meaning: String {
        switch self {
        case .unexpected: "something that nobody foresaw"
        case .usage: "a wrong option, argument or environment variable"
        case .host: "the host lacks something: a tool, memory, hugepages, a right"
        case .image: "the disk image, CD or kernel can't be used"
        case .seed: "user-data, meta-data, network-config or an SSH key can't be used"
        case .network: "an address or port can't be had"
        case .busy: "the machine's name, its state folder or a NIC is in use"
        case .qemu: "QEMU refused to start, or died"
        case .noMachine: "no such machine is running"
        case .guestCutOff: "the guest did not power off in time and was cut off"
        case .noSpace: "no space on the disk"
        case .port: "a NIC port can't be taken, or its switch does not run"
        case .fetch: "an image can't be fetched: its address, server, certificate or connection"
        case .checksum: "an image is not what its checksum or signature says"
        case .noMember: "an archive lacks a file"
        case .cleanup:
            "the machine ended well, but something could not be given back, or its ledger has a line that is not understood"
        }
    }
}

/// An operation that failed: one line for the user, one exit code.
package struct Failure: Error, Equatable, Codable {
    package var kind: FailureKind
    package var operation: String
    package var subject: String
    package var cause: String
    package var remedy: String?

    package init(_ kind: FailureKind, _ operation: String, _ subject: String, _ cause: String, remedy: String? = nil) {
        self.kind = kind
        self.operation = operation
        self.subject = subject
        self.cause = cause
        self.remedy = remedy
    }

    /// A program that is not there, and the package of Debian that has it.
    package static func missing(_ what: String, package: String) -> Failure {
        Failure(.host, "find", what, "it is not on PATH", remedy: "apt-get install \(package)")
    }

    /// What went wrong, whatever it was: for an error that is no failure nothing here knows a better word.
    package static func from(_ error: any Error, _ operation: String, _ subject: String) -> Failure {
        error as? Failure ?? Failure(.unexpected, operation, subject, "\(error)", remedy: "please report this")
    }

    /// What QEMU and qemu-img say of a passphrase that opens nothing.
    package static let wrongPassphrase = "Invalid password"

    /// The same, for the user to look at the passphrase.
    package var forPassphrase: Failure {
        let remedy = "see that the file of --secret-file holds the passphrase and nothing else, no newline either"
        return Failure(.image, operation, subject, cause, remedy: remedy)
    }

    package var line: String {
        let what = subject.isEmpty ? operation : "\(operation) \(subject)"
        let text = "cannot \(what): \(cause)" + (remedy.map { "; \($0)" } ?? "")
        return text.oneLine
    }
}
