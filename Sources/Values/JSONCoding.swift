/// The bridge from `Codable` to `JSON`: what the compiler writes for a type is all that the type needs to say.
extension JSON {
    package init(encoding value: some Encodable) throws {
        let place = JSONEncoding(path: [])
        try place.encode(value)
        self = place.json
    }

    package func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try JSONDecoding(json: self, codingPath: []).value(type)
    }
}

// MARK: - Encoding

/// A place in the tree that is being made; containers keep filling it after they were handed out.
private final class JSONEncoding: Encoder, SingleValueEncodingContainer {
    let codingPath: [any CodingKey]
    var userInfo: [CodingUserInfoKey: Any] { [:] }
    private var value = JSON.null
    private var elements: [JSONEncoding]?
    private var members: [String: JSONEncoding]?

    init(path: [any CodingKey]) { codingPath = path }

    var json: JSON {
        if let members { return .object(members.mapValues(\.json)) }
        return elements.map { .array($0.map(\.json)) } ?? value
    }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        members = members ?? [:]
        return KeyedEncodingContainer(Keyed<Key>(place: self))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        elements = elements ?? []
        return Unkeyed(place: self)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { self }
    func encodeNil() { value = .null }

    func encode<Value: Encodable>(_ value: Value) throws {
        switch value {
        case let value as JSON: self.value = value
        case let value as String: self.value = .string(value)
        case let value as Bool: self.value = .bool(value)
        case let value as Double: self.value = .number(value)
        case let value as any BinaryInteger:
            guard let integer = Int64(exactly: value) else {
                let context = EncodingError.Context(
                    codingPath: codingPath, debugDescription: "an integer beyond 64 bits")
                throw EncodingError.invalidValue(value, context)
            }
            self.value = .integer(integer)
        default: try value.encode(to: self)
        }
    }

    struct Keyed<Key: CodingKey>: KeyedEncodingContainerProtocol {
        let place: JSONEncoding
        var codingPath: [any CodingKey] { place.codingPath }

        private func member(_ key: any CodingKey) -> JSONEncoding {
            let member = JSONEncoding(path: codingPath + [key])
            place.members?[key.stringValue] = member
            return member
        }
        func encodeNil(forKey key: Key) { _ = member(key) }
        func encode<Value: Encodable>(_ value: Value, forKey key: Key) throws { try member(key).encode(value) }
        func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type, forKey key: Key
        ) -> KeyedEncodingContainer<Nested> { member(key).container(keyedBy: type) }
        func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer { member(key).unkeyedContainer() }
        func superEncoder() -> any Encoder { place }
        func superEncoder(forKey key: Key) -> any Encoder { member(key) }
    }

    struct Unkeyed: UnkeyedEncodingContainer {
        let place: JSONEncoding
        var codingPath: [any CodingKey] { place.codingPath }
        var count: Int { place.elements?.count ?? 0 }

        private func element() -> JSONEncoding {
            let element = JSONEncoding(path: codingPath)
            place.elements?.append(element)
            return element
        }
        func encodeNil() { _ = element() }
        func encode<Value: Encodable>(_ value: Value) throws { try element().encode(value) }
        func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
            element().container(keyedBy: type)
        }
        func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { element().unkeyedContainer() }
        func superEncoder() -> any Encoder { element() }
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

        private mutating func next() throws -> JSONDecoding {
            guard !isAtEnd else {
                let context = DecodingError.Context(codingPath: codingPath, debugDescription: "the list has ended")
                throw DecodingError.valueNotFound(JSON.self, context)
            }
            currentIndex += 1
            return JSONDecoding(json: values[currentIndex - 1], codingPath: codingPath)
        }
        mutating func decodeNil() throws -> Bool {
            // What is not null is still to be decoded.
            let isNull = try next().decodeNil()
            if !isNull { currentIndex -= 1 }
            return isNull
        }
        mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try next().value(type) }
        mutating func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type
        ) throws -> KeyedDecodingContainer<Nested> { try next().container(keyedBy: type) }
        mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { try next().unkeyedContainer() }
        mutating func superDecoder() throws -> any Decoder { try next() }
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
