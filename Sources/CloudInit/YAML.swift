import CLibYAML
import Values

struct YAMLSyntaxError: Error, Equatable {
    var line: Int
    var column: Int
    var problem: String
}

/// A YAML document read by libyaml, as the JSON value that it is the same as.
enum YAML {
    static func parse(_ bytes: [UInt8]) throws(YAMLSyntaxError) -> JSON {
        // On the heap, since libyaml keeps a pointer to the parser inside it.
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        guard yaml_parser_initialize(parser) == 1 else {
            throw YAMLSyntaxError(line: 1, column: 1, problem: "no memory")
        }
        defer { yaml_parser_delete(parser) }
        var reader = Reader(parser: parser)
        // A Result, since the closure's own error type is lost on Swift 6.0.
        let result = bytes.withUnsafeBufferPointer { buffer -> Result<JSON, YAMLSyntaxError> in
            yaml_parser_set_input_string(parser, buffer.baseAddress, buffer.count)
            do throws(YAMLSyntaxError) { return .success(try reader.document()) } catch { return .failure(error) }
        }
        return try result.get()
    }

    private struct Reader {
        let parser: UnsafeMutablePointer<yaml_parser_t>
        var anchors: [String: JSON] = [:]
        var nodes = 0

        /// Aliases can make a small file an endless value; nobody's user-data is this large.
        static let mostNodes = 100_000
        static let deepest = 64

        mutating func document() throws(YAMLSyntaxError) -> JSON {
            while true {
                var event = try next()
                defer { yaml_event_delete(&event) }
                switch event.type {
                case YAML_STREAM_START_EVENT: continue
                case YAML_DOCUMENT_START_EVENT:
                    let value = try value(depth: 0)
                    // The rest is read for its errors.
                    while true {
                        var rest = try next()
                        defer { yaml_event_delete(&rest) }
                        if rest.type == YAML_STREAM_END_EVENT { return value }
                    }
                default: return .null
                }
            }
        }

        private mutating func next() throws(YAMLSyntaxError) -> yaml_event_t {
            var event = yaml_event_t()
            if yaml_parser_parse(parser, &event) == 1 { return event }
            let text = { (words: UnsafePointer<CChar>?) in words.map { String(cString: $0) } }
            let problem = [text(parser.pointee.problem), text(parser.pointee.context)].compactMap(\.self).joined(
                separator: ", ")
            throw YAMLSyntaxError(
                line: Int(parser.pointee.problem_mark.line) + 1, column: Int(parser.pointee.problem_mark.column) + 1,
                problem: problem.isEmpty ? "no YAML" : problem)
        }

        private func problem(_ text: String, at event: yaml_event_t) -> YAMLSyntaxError {
            YAMLSyntaxError(
                line: Int(event.start_mark.line) + 1, column: Int(event.start_mark.column) + 1, problem: text)
        }

        private mutating func value(depth: Int) throws(YAMLSyntaxError) -> JSON {
            var event = try next()
            defer { yaml_event_delete(&event) }
            return try value(from: event, depth: depth)
        }

        private mutating func value(from event: yaml_event_t, depth: Int) throws(YAMLSyntaxError) -> JSON {
            nodes += 1
            if nodes > Reader.mostNodes || depth > Reader.deepest { throw problem("too large", at: event) }
            switch event.type {
            case YAML_SCALAR_EVENT:
                let scalar = event.data.scalar
                let text = String(
                    decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
                let plain = scalar.style == YAML_PLAIN_SCALAR_STYLE && scalar.tag == nil
                return remember(plain ? Reader.resolve(text) : .string(text), as: scalar.anchor)
            case YAML_SEQUENCE_START_EVENT:
                return remember(try sequence(depth: depth), as: event.data.sequence_start.anchor)
            case YAML_MAPPING_START_EVENT:
                return remember(try mapping(depth: depth), as: event.data.mapping_start.anchor)
            case YAML_ALIAS_EVENT:
                let name = Reader.name(event.data.alias.anchor) ?? ""
                guard let value = anchors[name] else { throw problem("unknown alias *\(name)", at: event) }
                return value
            default: return .null
            }
        }

        private mutating func sequence(depth: Int) throws(YAMLSyntaxError) -> JSON {
            var values: [JSON] = []
            while true {
                var event = try next()
                defer { yaml_event_delete(&event) }
                if event.type == YAML_SEQUENCE_END_EVENT { return .array(values) }
                values.append(try value(from: event, depth: depth + 1))
            }
        }

        private mutating func mapping(depth: Int) throws(YAMLSyntaxError) -> JSON {
            var members: [String: JSON] = [:]
            while true {
                var event = try next()
                defer { yaml_event_delete(&event) }
                if event.type == YAML_MAPPING_END_EVENT { return .object(members) }
                let key = try value(from: event, depth: depth + 1)
                members[key.string ?? key.text] = try value(depth: depth + 1)
            }
        }

        private mutating func remember(_ value: JSON, as anchor: UnsafePointer<yaml_char_t>?) -> JSON {
            if let name = Reader.name(anchor) { anchors[name] = value }
            return value
        }

        private static func name(_ anchor: UnsafePointer<yaml_char_t>?) -> String? {
            anchor.map { String(cString: $0) }
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
}
