import Values

/// What other commands ask of a running machine: an object of JSON on a line of its own. A command and a launcher may
/// be of different versions, so the names here stay, and what is missing has a meaning.
package enum ControlRequest: Decodable, Equatable {
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

    package init(from decoder: any Decoder) throws {
        let fields = try JSON(from: decoder)
        let number = { (key: String) in fields[key]?.integer.flatMap { Int(exactly: $0) } ?? 0 }
        let verb = fields["verb"]?.string ?? ""
        switch verb {
        case "status": self = .status
        case "ports": self = .ports
        case "streams": self = .streams
        case "ssh": self = .ssh
        case "console": self = .console
        case "stop": self = .stop(now: fields["now"]?.bool ?? false)
        case "attach": self = .attach(stream: fields["stream"]?.string ?? "")
        case "resize": self = .resize(rows: number("rows"), columns: number("columns"))
        default: throw Unknown(verb: verb)
        }
    }

    private var json: JSON {
        switch self {
        case .status: ["verb": "status"]
        case .ports: ["verb": "ports"]
        case .streams: ["verb": "streams"]
        case .ssh: ["verb": "ssh"]
        case .console: ["verb": "console"]
        case .stop(let now): ["verb": "stop", "now": .bool(now)]
        case .attach(let stream): ["verb": "attach", "stream": .string(stream)]
        case .resize(let rows, let columns):
            ["verb": "resize", "rows": .integer(Int64(rows)), "columns": .integer(Int64(columns))]
        }
    }

    package var line: [UInt8] { Array("\(json.text)\n".utf8) }
}
