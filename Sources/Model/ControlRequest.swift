import Values

/// What other commands ask of a running machine: an object of JSON on a line of its own. A command and a launcher may
/// be of different versions, so the names here stay, and what is missing has a meaning.
package enum ControlRequest: Codable, Equatable {
    case status
    case ports
    case streams
    case ssh
    /// Makes sure that the windows are there to attach to.
    case console
    case stop(now: Bool)
    /// From here on the connection is the stream.
    case attach(stream: String)
    case resize(rows: Int, columns: Int)

    /// A request of another version.
    package struct Unknown: Error { package var verb: String }

    private enum Key: String, CodingKey { case verb, now, stream, rows, columns }

    /// Requests that are a word alone.
    private static let plain: [String: ControlRequest] = [
        "status": .status, "ports": .ports, "streams": .streams, "ssh": .ssh, "console": .console,
    ]

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        let number = { (key: Key) in (try? values.decode(Int.self, forKey: key)) ?? 0 }
        let verb = (try? values.decode(String.self, forKey: .verb)) ?? ""
        switch verb {
        case "stop": self = .stop(now: (try? values.decode(Bool.self, forKey: .now)) ?? false)
        case "attach": self = .attach(stream: (try? values.decode(String.self, forKey: .stream)) ?? "")
        case "resize": self = .resize(rows: number(.rows), columns: number(.columns))
        default:
            guard let plain = ControlRequest.plain[verb] else { throw Unknown(verb: verb) }
            self = plain
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: Key.self)
        let verb: String
        switch self {
        case .stop(let now):
            verb = "stop"
            try values.encode(now, forKey: .now)
        case .attach(let stream):
            verb = "attach"
            try values.encode(stream, forKey: .stream)
        case .resize(let rows, let columns):
            verb = "resize"
            try values.encode(rows, forKey: .rows)
            try values.encode(columns, forKey: .columns)
        case .status, .ports, .streams, .ssh, .console:
            verb = ControlRequest.plain.first { $0.value == self }?.key ?? ""
        }
        try values.encode(verb, forKey: .verb)
    }

    package var line: [UInt8] { Array(((try? JSON(encoding: self).text) ?? "").utf8) + [0x0a] }
}
