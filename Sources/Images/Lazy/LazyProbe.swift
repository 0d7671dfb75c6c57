import System
import Values

/// Looks whether a machine can boot from a file while it comes, and asks for its first bytes.
final class LazyProbe {
    enum Answer {
        case yes(Validators, [UInt8])
        /// Why it must be fetched first.
        case no(String)
        case notModified
        /// The server can't be had; a fetch says it better.
        case trouble
    }

    private static let size: UInt64 = 64 << 10
    private let address: ImageURL
    private let web: Web
    private let known: Validators?
    private let loop: EventLoop

    init(_ address: ImageURL, _ web: Web, known: Validators?, _ loop: EventLoop) {
        self.address = address
        self.web = web
        self.known = known
        self.loop = loop
    }

    func ask() throws -> Answer {
        if address.isFTP { return .no("FTP has no way to ask for parts of a file") }
        let conditions = known?.onlyIfChanged ?? []
        // First without content: who knows no ranges would send all of it.
        let about = try WebRequest(address, in: web, conditions: conditions, headOnly: true)
        if try finish(about) != nil { return .trouble }
        switch about.head.status {
        case 304: return .notModified
        case 200 where about.head.fields["accept-ranges"]?.lowercased() != "bytes":
            return .no("its server sends no parts of a file")
        default: return try askForBytes(conditions)
        }
    }

    private func finish(_ request: WebRequest) throws -> WebFailure? {
        var failure: WebFailure?
        var isOver = false
        request.onEnd = {
            failure = $0
            isOver = true
        }
        try loop.run { isOver }
        return failure
    }

    private func askForBytes(_ conditions: [String]) throws -> Answer {
        let request = try WebRequest(address, in: web, range: (0, LazyProbe.size), conditions: conditions)
        var bytes: [UInt8] = []
        request.onHead = { $0.status == 206 }
        request.onBody = {
            bytes += $0
            return bytes.count <= LazyProbe.size
        }
        if try finish(request) != nil { return .trouble }
        let head = request.head
        switch head.status {
        case 206: break
        case 304: return .notModified
        case 200: return .no("its server sends no parts of a file")
        default: return .trouble
        }
        var validators = head.validators
        guard let range = head.contentRange, let total = range.total, range.range.lowerBound == 0 else {
            return .no("its server does not say how long it is")
        }
        validators.length = total
        if validators.condition == nil {
            return .no("its server does not say when the file is changed")
        }
        return .yes(validators, Array(bytes.prefix(Int(min(total, range.range.upperBound)))))
    }
}
