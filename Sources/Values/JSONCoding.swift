/// The bridge from `Codable` to `JSON`: what the compiler writes for a type is all that the type needs to say.
extension JSON {
    package init(encoding value: some Encodable) throws {
        let node = EncodedNode()
        try node.store(value, path: [])
        self = node.json
    }

    package func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try JSONDecoding(json: self, codingPath: []).value(type)
    }
}

// MARK: - Encoding

/// A place in the tree that is being made; containers keep filling it after they were handed out.
private final class EncodedNode {
    enum Content {
        case value(JSON)
        case array([EncodedNode])
        case object([String: EncodedNode])
    }
    var content = Content.value(.null)

    var json: JSON {
        switch content {
        case .value(let json): json
        case .array(let nodes): .array(nodes.map(\.json))
        case .object(let members): .object(members.mapValues(\.json))
        }
    }

    func member(_ name: String) -> EncodedNode {
        let node = EncodedNode()
        if case .object(var members) = content {
            content = .value(.null)  // so that the dictionary is changed in place
            members[name] = node
            content = .object(members)
        }
        return node
    }

    func element() -> EncodedNode {
        let node = EncodedNode()
        if case .array(var nodes) = content {
            content = .value(.null)
            nodes.append(node)
            content = .array(nodes)
        }
        return node
    }

    func store(_ value: some Encodable, path: [any CodingKey]) throws {
        switch value {
        case let value as JSON: content = .value(value)
        case let value as String: content = .value(.string(value))
        case let value as Bool: content = .value(.bool(value))
        case let value as Double: content = .value(.number(value))
        case let value as any BinaryInteger:
            guard let integer = Int64(exactly: value) else {
                let context = EncodingError.Context(codingPath: path, debugDescription: "an integer beyond 64 bits")
                throw EncodingError.invalidValue(value, context)
            }
            content = .value(.integer(integer))
        default: try value.encode(to: JSONEncoding(node: self, codingPath: path))
        }
    }
}

extension JSON: Codable {
    package init(from decoder: any Decoder) throws {
        guard let decoder = decoder as? JSONDecoding else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "not from JSON"))
        }
        self = decoder.json
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(self)
    }
}

private struct JSONEncoding: Encoder, SingleValueEncodingContainer {
    let node: EncodedNode
    var codingPath: [any CodingKey]
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        if case .object = node.content {} else { node.content = .object([:]) }
        return KeyedEncodingContainer(Keyed<Key>(node: node, codingPath: codingPath))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        if case .array = node.content {} else { node.content = .array([]) }
        return Unkeyed(node: node, codingPath: codingPath)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { self }
    func encodeNil() { node.content = .value(.null) }
    func encode<Value: Encodable>(_ value: Value) throws { try node.store(value, path: codingPath) }

    struct Keyed<Key: CodingKey>: KeyedEncodingContainerProtocol {
        let node: EncodedNode
        var codingPath: [any CodingKey]

        private func encoding(_ key: any CodingKey) -> JSONEncoding {
            JSONEncoding(node: node.member(key.stringValue), codingPath: codingPath + [key])
        }
        func encodeNil(forKey key: Key) { _ = node.member(key.stringValue) }
        func encode<Value: Encodable>(_ value: Value, forKey key: Key) throws { try encoding(key).encode(value) }
        func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type, forKey key: Key
        ) -> KeyedEncodingContainer<Nested> { encoding(key).container(keyedBy: type) }
        func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
            encoding(key).unkeyedContainer()
        }
        func superEncoder() -> any Encoder { JSONEncoding(node: node.member("super"), codingPath: codingPath) }
        func superEncoder(forKey key: Key) -> any Encoder { encoding(key) }
    }

    struct Unkeyed: UnkeyedEncodingContainer {
        let node: EncodedNode
        var codingPath: [any CodingKey]
        var count: Int { if case .array(let nodes) = node.content { nodes.count } else { 0 } }

        private func encoding() -> JSONEncoding { JSONEncoding(node: node.element(), codingPath: codingPath) }
        func encodeNil() { _ = node.element() }
        func encode<Value: Encodable>(_ value: Value) throws { try encoding().encode(value) }
        func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
            encoding().container(keyedBy: type)
        }
        func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { encoding().unkeyedContainer() }
        func superEncoder() -> any Encoder { encoding() }
    }
}

// MARK: - Decoding

private struct JSONDecoding: Decoder, SingleValueDecodingContainer {
    let json: JSON
    var codingPath: [any CodingKey]
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func mismatch(_ type: Any.Type) -> DecodingError {
        .typeMismatch(type, .init(codingPath: codingPath, debugDescription: "\(type) expected"))
    }

    func value<Value: Decodable>(_ type: Value.Type) throws -> Value {
        let found: Any? =
            switch type {
            case is String.Type: json.string
            case is Bool.Type: json.bool
            case is Double.Type: json.integer.map(Double.init) ?? { if case .number(let n) = json { n } else { nil } }()
            case let integers as any FixedWidthInteger.Type: json.integer.flatMap { integers.exactly($0) }
            default: try type.init(from: self)
            }
        guard let found = found as? Value else { throw mismatch(type) }
        return found
    }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard let members = json.object else { throw mismatch([String: JSON].self) }
        return KeyedDecodingContainer(Keyed<Key>(members: members, codingPath: codingPath))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        guard let values = json.array else { throw mismatch([JSON].self) }
        return Unkeyed(values: values, codingPath: codingPath)
    }

    func singleValueContainer() -> any SingleValueDecodingContainer { self }
    func decodeNil() -> Bool { json == .null }
    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try value(type) }

    struct Keyed<Key: CodingKey>: KeyedDecodingContainerProtocol {
        let members: [String: JSON]
        var codingPath: [any CodingKey]
        var allKeys: [Key] { members.keys.compactMap(Key.init(stringValue:)) }

        private func decoding(_ key: any CodingKey) throws -> JSONDecoding {
            guard let json = members[key.stringValue] else {
                let context = DecodingError.Context(codingPath: codingPath, debugDescription: "no \(key.stringValue)")
                throw DecodingError.keyNotFound(key, context)
            }
            return JSONDecoding(json: json, codingPath: codingPath + [key])
        }
        func contains(_ key: Key) -> Bool { members[key.stringValue] != nil }
        func decodeNil(forKey key: Key) throws -> Bool { try decoding(key).decodeNil() }
        func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
            try decoding(key).value(type)
        }
        func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type, forKey key: Key
        ) throws -> KeyedDecodingContainer<Nested> { try decoding(key).container(keyedBy: type) }
        func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
            try decoding(key).unkeyedContainer()
        }
        func superDecoder() -> any Decoder { JSONDecoding(json: .object(members), codingPath: codingPath) }
        func superDecoder(forKey key: Key) throws -> any Decoder { try decoding(key) }
    }

    struct Unkeyed: UnkeyedDecodingContainer {
        let values: [JSON]
        var codingPath: [any CodingKey]
        var currentIndex = 0
        var count: Int? { values.count }
        var isAtEnd: Bool { currentIndex >= values.count }

        private func current() throws -> JSONDecoding {
            guard !isAtEnd else {
                let context = DecodingError.Context(codingPath: codingPath, debugDescription: "the list has ended")
                throw DecodingError.valueNotFound(JSON.self, context)
            }
            return JSONDecoding(json: values[currentIndex], codingPath: codingPath)
        }
        mutating func decodeNil() throws -> Bool {
            guard try current().decodeNil() else { return false }
            currentIndex += 1
            return true
        }
        mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
            let value = try current().value(type)
            currentIndex += 1
            return value
        }
        mutating func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type
        ) throws -> KeyedDecodingContainer<Nested> {
            let container = try current().container(keyedBy: type)
            currentIndex += 1
            return container
        }
        mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
            let container = try current().unkeyedContainer()
            currentIndex += 1
            return container
        }
        mutating func superDecoder() throws -> any Decoder { try current() }
    }
}

extension FixedWidthInteger {
    fileprivate static func exactly(_ value: Int64) -> Any? { Self(exactly: value) }
}

/// What stands in JSON as users write it.
package protocol TextCodable: Codable, CustomStringConvertible {
    init?(_ text: String)
}

extension TextCodable {
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let value = Self(text) else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: text))
        }
        self = value
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
