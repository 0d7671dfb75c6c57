/// JSON as a value. Foundation's reader would cost every running launcher 4 MB of memory for a few short lines from QEMU,
/// so the project has a small one: it takes what RFC 8259 allows, no more, and never trusts the sender's nesting.
package enum JSON: Equatable, Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    package subscript(key: String) -> JSON? {
        if case .object(let members) = self { members[key] } else { nil }
    }

    package var string: String? { if case .string(let value) = self { value } else { nil } }
    package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    package var array: [JSON]? { if case .array(let value) = self { value } else { nil } }
    package var object: [String: JSON]? { if case .object(let value) = self { value } else { nil } }
    package var integer: Int64? {
        switch self {
        case .integer(let value): value
        case .number(let value): Int64(exactly: value)
        default: nil
        }
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSON)...) { self = .object(Dictionary(elements) { $1 }) }
}

// MARK: - Writing

extension JSON {
    /// One line, keys sorted, so that equal values print equal.
    package var text: String { written(indent: nil) }

    /// For people: two spaces a level.
    package var prettyText: String { written(indent: 0) }

    private func written(indent: Int?) -> String {
        let inner = indent.map { $0 + 1 }
        switch self {
        case .null: return "null"
        case .bool(let value): return value ? "true" : "false"
        case .integer(let value): return String(value)
        case .number(let value): return value.isFinite ? "\(value)" : "null"
        case .string(let value): return JSON.quoted(value)
        case .array(let values): return JSON.list("[", values.map { $0.written(indent: inner) }, "]", indent: indent)
        case .object(let members):
            let colon = indent == nil ? ":" : ": "
            let items = members.sorted { $0.key < $1.key }.map { key, value in
                JSON.quoted(key) + colon + value.written(indent: inner)
            }
            return JSON.list("{", items, "}", indent: indent)
        }
    }

    private static func list(_ open: String, _ items: [String], _ close: String, indent: Int?) -> String {
        guard let indent, !items.isEmpty else { return open + items.joined(separator: ",") + close }
        let line = "\n" + String(repeating: "  ", count: indent)
        return "\(open)\(line)  " + items.joined(separator: ",\(line)  ") + line + close
    }

    private static func quoted(_ value: String) -> String {
        var output = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": output += "\\\""
            case "\\": output += "\\\\"
            case "\n": output += "\\n"
            case "\r": output += "\\r"
            case "\t": output += "\\t"
            case "\0"..."\u{1f}", "\u{7f}": output += "\\u" + hexadecimal(UInt64(scalar.value), digits: 4)
            default: output.unicodeScalars.append(scalar)
            }
        }
        return output + "\""
    }
}

// MARK: - Reading

package struct JSONSyntaxError: Error, Equatable, CustomStringConvertible {
    var offset: Int
    var expected: String
    package var description: String { "not JSON at byte \(offset): \(expected) expected" }
}

extension JSON {
    package init(parsing text: String) throws(JSONSyntaxError) { try self.init(parsing: Array(text.utf8)) }

    package init(parsing bytes: [UInt8]) throws(JSONSyntaxError) {
        var reader = Reader(bytes: bytes)
        self = try reader.document()
    }

    /// Of something that is named in the failure, where it is none.
    package init(parsing bytes: [UInt8], orElse failure: (String) -> Failure) throws(Failure) {
        do throws(JSONSyntaxError) { try self.init(parsing: bytes) } catch { throw failure("\(error)") }
    }

    private struct Reader {
        let bytes: [UInt8]
        var at = 0
        static let deepest = 128
        private static let escapes: [Unicode.Scalar: Unicode.Scalar] = [
            "\"": "\"", "\\": "\\", "/": "/", "b": "\u{8}", "f": "\u{c}", "n": "\n", "r": "\r", "t": "\t",
        ]

        mutating func document() throws(JSONSyntaxError) -> JSON {
            let value = try value(depth: 0)
            skipSpace()
            if at < bytes.count { throw expected("the end") }
            return value
        }

        private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

        private func expected(_ what: String) -> JSONSyntaxError { JSONSyntaxError(offset: at, expected: what) }

        private mutating func skipSpace() {
            while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { at += 1 }
        }

        private mutating func take(_ character: Unicode.Scalar) -> Bool {
            guard next == UInt8(ascii: character) else { return false }
            at += 1
            return true
        }

        private mutating func value(depth: Int) throws(JSONSyntaxError) -> JSON {
            if depth > Reader.deepest { throw expected("less nesting") }
            skipSpace()
            switch next {
            case UInt8(ascii: "{"): return try object(depth: depth)
            case UInt8(ascii: "["): return try array(depth: depth)
            case UInt8(ascii: "\""): return .string(try string())
            case UInt8(ascii: "t"): return try word("true", .bool(true))
            case UInt8(ascii: "f"): return try word("false", .bool(false))
            case UInt8(ascii: "n"): return try word("null", .null)
            case .some(UInt8(ascii: "-")), .some(UInt8(ascii: "0")...UInt8(ascii: "9")): return try number()
            default: throw expected("a value")
            }
        }

        private mutating func word(_ text: String, _ value: JSON) throws(JSONSyntaxError) -> JSON {
            guard bytes[at...].starts(with: text.utf8) else { throw expected(text) }
            at += text.utf8.count
            return value
        }

        private mutating func array(depth: Int) throws(JSONSyntaxError) -> JSON {
            at += 1
            var values: [JSON] = []
            skipSpace()
            if take("]") { return .array(values) }
            repeat { values.append(try value(depth: depth + 1)) } while try goesOn("]")
            return .array(values)
        }

        /// Behind an item of a list: whether there is another.
        private mutating func goesOn(_ close: Unicode.Scalar) throws(JSONSyntaxError) -> Bool {
            skipSpace()
            if take(",") { return true }
            if !take(close) { throw expected("',' or '\(close)'") }
            return false
        }

        private mutating func object(depth: Int) throws(JSONSyntaxError) -> JSON {
            at += 1
            var members: [String: JSON] = [:]
            skipSpace()
            if take("}") { return .object(members) }
            repeat {
                skipSpace()
                if next != UInt8(ascii: "\"") { throw expected("a name") }
                let name = try string()
                skipSpace()
                if !take(":") { throw expected("':'") }
                members[name] = try value(depth: depth + 1)
            } while try goesOn("}")
            return .object(members)
        }

        private mutating func digits() throws(JSONSyntaxError) {
            let start = at
            while let byte = next, (0x30...0x39).contains(byte) { at += 1 }
            if at == start { throw expected("a digit") }
        }

        private mutating func number() throws(JSONSyntaxError) -> JSON {
            let start = at
            _ = take("-")
            if !take("0") { try digits() }
            if take(".") { try digits() }
            if take("e") || take("E") {
                if !take("+") { _ = take("-") }
                try digits()
            }
            let text = String(decoding: bytes[start..<at], as: UTF8.self)
            if let integer = Int64(text) { return .integer(integer) }
            guard let number = Double(text), number.isFinite else { throw expected("a number in range") }
            return .number(number)
        }

        private mutating func string() throws(JSONSyntaxError) -> String {
            at += 1
            var content: [UInt8] = []
            while let byte = next {
                at += 1
                switch byte {
                case UInt8(ascii: "\""):
                    guard let text = String(validating: content, as: UTF8.self) else { throw expected("UTF-8") }
                    return text
                case UInt8(ascii: "\\"): content += Array(String(try escaped()).utf8)
                case 0..<0x20: throw expected("an escaped control character")
                default: content.append(byte)
                }
            }
            throw expected("'\"'")
        }

        private mutating func escaped() throws(JSONSyntaxError) -> Unicode.Scalar {
            let letter = next.map { Unicode.Scalar($0) }
            at += 1
            if letter == "u" { return try unicode() }
            guard let letter, let scalar = Reader.escapes[letter] else { throw expected("an escape") }
            return scalar
        }

        private mutating func unicode() throws(JSONSyntaxError) -> Unicode.Scalar {
            let first = try hexadecimalQuad()
            if let scalar = Unicode.Scalar(first) { return scalar }
            // Half of a surrogate pair: the other half must follow.
            guard (0xd800..<0xdc00).contains(first), take("\\"), take("u") else { throw expected("a surrogate pair") }
            let second = try hexadecimalQuad()
            guard (0xdc00..<0xe000).contains(second),
                let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
            else { throw expected("a surrogate pair") }
            return scalar
        }

        private mutating func hexadecimalQuad() throws(JSONSyntaxError) -> UInt32 {
            guard at + 4 <= bytes.count, let text = String(validating: bytes[at..<at + 4], as: UTF8.self),
                text.allSatisfy(\.isHexDigit), let value = UInt32(text, radix: 16)
            else { throw expected("four hexadecimal digits") }
            at += 4
            return value
        }
    }
}
