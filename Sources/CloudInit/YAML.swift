import CLibYAML
import Values

struct YAMLSyntaxError: Error, Equatable {
    var line: Int
    var column: Int
    var problem: String

    init(_ problem: String, at mark: yaml_mark_t) {
        (line, column, self.problem) = (Int(mark.line) + 1, Int(mark.column) + 1, problem)
    }
}

/// A YAML document read by libyaml, as the JSON value that it is the same as.
struct YAML {
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private var anchors: [String: JSON] = [:]
    private var nodes = 0

    /// Aliases can make a small file an endless value; nobody's user-data is this large.
    private static let mostNodes = 100_000
    private static let deepest = 64

    static func parse(_ bytes: [UInt8]) throws(YAMLSyntaxError) -> JSON {
        // On the heap, since libyaml keeps a pointer to the parser inside it.
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        if yaml_parser_initialize(parser) != 1 { throw YAMLSyntaxError("no memory", at: yaml_mark_t()) }
        defer { yaml_parser_delete(parser) }
        var reader = YAML(parser: parser)
        // A Result, since the closure's own error type is lost on Swift 6.0.
        let result = bytes.withUnsafeBufferPointer { buffer -> Result<JSON, YAMLSyntaxError> in
            yaml_parser_set_input_string(parser, buffer.baseAddress, buffer.count)
            do throws(YAMLSyntaxError) { return .success(try reader.document()) } catch { return .failure(error) }
        }
        return try result.get()
    }

    private mutating func document() throws(YAMLSyntaxError) -> JSON {
        var document: JSON?
        while true {
            var event = try next()
            defer { yaml_event_delete(&event) }
            switch event.type {
            case YAML_DOCUMENT_START_EVENT where document == nil:
                document = try values(until: YAML_DOCUMENT_END_EVENT, depth: 0).first
            case YAML_STREAM_END_EVENT: return document ?? .null
            // What comes behind the first document is read for its errors.
            default: continue
            }
        }
    }

    private mutating func next() throws(YAMLSyntaxError) -> yaml_event_t {
        var event = yaml_event_t()
        if yaml_parser_parse(parser, &event) == 1 { return event }
        let said = [parser.pointee.problem, parser.pointee.context].compactMap(\.self).map { String(cString: $0) }
        throw YAMLSyntaxError(
            said.isEmpty ? "no YAML" : said.joined(separator: ", "), at: parser.pointee.problem_mark)
    }

    private mutating func value(from event: yaml_event_t, depth: Int) throws(YAMLSyntaxError) -> JSON {
        nodes += 1
        if nodes > YAML.mostNodes || depth > YAML.deepest { throw YAMLSyntaxError("too large", at: event.start_mark) }
        switch event.type {
        case YAML_SCALAR_EVENT:
            let scalar = event.data.scalar
            let text = String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
            let plain = scalar.style == YAML_PLAIN_SCALAR_STYLE && scalar.tag == nil
            return remember(plain ? YAML.resolve(text) : .string(text), as: scalar.anchor)
        case YAML_SEQUENCE_START_EVENT:
            let items = try values(until: YAML_SEQUENCE_END_EVENT, depth: depth + 1)
            return remember(.array(items), as: event.data.sequence_start.anchor)
        case YAML_MAPPING_START_EVENT:
            // Keys and values in turn.
            var rest = try values(until: YAML_MAPPING_END_EVENT, depth: depth + 1)[...]
            var members: [String: JSON] = [:]
            while let key = rest.popFirst() { members[key.string ?? key.text] = rest.popFirst() }
            return remember(.object(members), as: event.data.mapping_start.anchor)
        case YAML_ALIAS_EVENT:
            let name = event.data.alias.anchor.map { String(cString: $0) } ?? ""
            if let value = anchors[name] { return value }
            throw YAMLSyntaxError("unknown alias *\(name)", at: event.start_mark)
        default: return .null
        }
    }

    private mutating func values(until end: yaml_event_type_t, depth: Int) throws(YAMLSyntaxError) -> [JSON] {
        var values: [JSON] = []
        while true {
            var event = try next()
            defer { yaml_event_delete(&event) }
            if event.type == end { return values }
            values.append(try value(from: event, depth: depth))
        }
    }

    private mutating func remember(_ value: JSON, as anchor: UnsafePointer<yaml_char_t>?) -> JSON {
        if let anchor { anchors[String(cString: anchor)] = value }
        return value
    }

    /// The core schema's plain scalars; what looks like nothing else is text.
    private static func resolve(_ text: String) -> JSON {
        switch text {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE": return .bool(true)
        case "false", "False", "FALSE": return .bool(false)
        default: break
        }
        if let integer = Int64(text), !text.hasPrefix("+") { return .integer(integer) }
        if text.contains("."), let number = Double(text), number.isFinite { return .number(number) }
        return .string(text)
    }
}
