import Values

/// A NIC port as it is asked for: `PCI[,key=value…]`, `if:INTERFACE[,…]` or `tap:NAME[,…]`.
package struct PortRequest: Codable, Equatable {
    package var source: PortSource
    package var settings = PortSettings()

    /// The requests in one argument: `env:NAME` stands for all the addresses in that variable.
    package static func parse(_ text: String, environment: [String: String]) throws(Failure) -> [PortRequest] {
        var parts = text.optionParts[...]
        let name = parts.popFirst() ?? ""
        var settings = PortSettings()
        for part in parts {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard pair.count == 2 else {
                throw PortRequest.usage(text, "'\(part)' is no key=value", "keys: \(PortKey.names)")
            }
            try settings.set(pair[0], pair[1], of: text)
        }
        return try sources(name, environment).map { PortRequest(source: $0, settings: settings) }
    }

    /// The ports in the environment, one a line; or many in one, where none has settings.
    package static func parse(list: String, environment: [String: String]) throws(Failure) -> [PortRequest] {
        var requests: [PortRequest] = []
        for line in list.split(whereSeparator: \.isNewline).map({ String($0).trimmed }) where !line.isEmpty {
            let names = line.split { $0 == "," || $0.isWhitespace }.map(String.init)
            let isList = names.allSatisfy { PortSource($0) != nil || $0.hasPrefix("env:") }
            for text in isList ? names : [line] { requests += try parse(text, environment: environment) }
        }
        return requests
    }

    private static func sources(_ name: String, _ environment: [String: String]) throws(Failure) -> [PortSource] {
        guard name.hasPrefix("env:") else {
            if let source = PortSource(name) { return [source] }
            throw usage(name, "it is neither a PCI address nor env:NAME, if:INTERFACE or tap:NAME")
        }
        let variable = String(name.dropFirst(4))
        guard let value = environment[variable] else { throw usage(name, "there is no variable \(variable)") }
        let names = value.split { $0 == "," || $0.isWhitespace }.map(String.init)
        if names.isEmpty { throw usage(name, "the variable \(variable) is empty") }
        return try names.map { name throws(Failure) in
            if let source = PortSource(name) { return source }
            throw usage("env:\(variable)", "'\(name)' in it is no PCI address")
        }
    }

    package static func usage(_ subject: String, _ cause: String, _ remedy: String? = nil) -> Failure {
        Failure(.usage, "use port", subject, cause, remedy: remedy ?? "see snabbvm --help")
    }
}

/// What a port's frames come from and go to.
package enum PortSource: Hashable, TextCodable {
    case pci(PCIAddress)
    case interface(String)
    case tap(String)

    package init?(_ text: String) {
        if let address = PCIAddress(text) {
            self = .pci(address)
        } else if text.hasPrefix("if:"), text.dropFirst(3).isInterfaceName {
            self = .interface(String(text.dropFirst(3)))
        } else if text.hasPrefix("tap:"), text.dropFirst(4).isInterfaceName {
            self = .tap(String(text.dropFirst(4)))
        } else {
            return nil
        }
    }

    package var description: String {
        switch self {
        case .pci(let address): address.description
        case .interface(let name): "if:\(name)"
        case .tap(let name): "tap:\(name)"
        }
    }

    package var pciAddress: PCIAddress? { if case .pci(let address) = self { address } else { nil } }
}

/// Who moves a port's frames between the wire and the machine.
package enum EngineName: String, CaseIterable, Codable { case snabb, dpdk, vfio }

/// How a port is to be switched; what is not given is left to the engine.
package struct PortSettings: Codable, Equatable {
    package var engine: EngineName?
    package var driver: String?
    package var mac: MACAddress?
    package var vlan: Int?
    package var vmdq: Bool?
    /// pcap-filter texts for what the machine receives, and for what it sends.
    package var filterIn: String?
    package var filterOut: String?
    /// Bits a second that the machine receives, and sends.
    package var rxLimit: UInt64?
    package var txLimit: UInt64?
    package var mtu: Int?
    package var queues: Int?
    package var cpu: Int?
    package var name: String?

    package init() {}

    mutating func set(_ key: String, _ text: String, of port: String) throws(Failure) {
        guard let row = PortKey.table.first(where: { $0.name == key }) else {
            let near = key.nearest(among: PortKey.table.map(\.name)).map { "did you mean \($0)? " } ?? ""
            throw PortRequest.usage(port, "there is no key '\(key)'", "\(near)keys: \(PortKey.names)")
        }
        if !row.set(&self, text) { throw PortRequest.usage(port, "\(key)='\(text)' is not \(row.placeholder)") }
    }

    /// These where they say something, else those.
    package func over(_ others: PortSettings) -> PortSettings {
        var result = others
        for row in PortKey.table where row.isGiven(self) { row.take(self, &result) }
        return result
    }
}

/// One key of a port: its row makes the parser, the file of ports and the help.
package struct PortKey: Sendable {
    package var name: String
    package var placeholder: String
    package var help: String
    /// Whether a running switch takes a new value.
    package var isLive: Bool
    var set: @Sendable (inout PortSettings, String) -> Bool
    package var isGiven: @Sendable (PortSettings) -> Bool
    /// Takes over the value, or that there is none.
    package var take: @Sendable (PortSettings, inout PortSettings) -> Void
    package var isSame: @Sendable (PortSettings, PortSettings) -> Bool

    private init<Value: Equatable & Sendable>(
        _ name: String, _ placeholder: String, _ help: String,
        _ field: WritableKeyPath<PortSettings, Value?> & Sendable, isLive: Bool = false,
        _ read: @escaping @Sendable (String) -> Value?
    ) {
        self.name = name
        self.placeholder = placeholder
        self.help = help
        self.isLive = isLive
        set = { settings, text in
            guard let value = read(text) else { return false }
            settings[keyPath: field] = value
            return true
        }
        isGiven = { $0[keyPath: field] != nil }
        take = { $1[keyPath: field] = $0[keyPath: field] }
        isSame = { $0[keyPath: field] == $1[keyPath: field] }
    }

    static var names: String { table.map(\.name).joined(separator: ", ") }

    package static let table: [PortKey] = [
        .init("engine", "snabb|dpdk|vfio", "who moves the frames (snabb)", \.engine) { EngineName(rawValue: $0) },
        .init("driver", "NAME", "the engine's driver (by the device's id; if: raw or xdp)", \.driver, word()),
        .init("mac", "ADDRESS", "MAC address in the machine (made from the names)", \.mac) { MACAddress(unicast: $0) },
        .init("vlan", "1-4094", "tag on the wire, removed for the machine", \.vlan, isLive: true, number(1...4094)),
        .init("vmdq", "yes|no", "82599: its own filter of MAC and VLAN, rather than the whole port", \.vmdq) {
            ["yes": true, "true": true, "on": true, "no": false, "false": false, "off": false][$0]
        },
        .init(
            "filter-in", "FILTER", "what the machine may receive, as pcap-filter writes it", \.filterIn, isLive: true,
            filter),
        .init("filter-out", "FILTER", "what it may send", \.filterOut, isLive: true, filter),
        .init("rx-limit", "RATE", "bits a second that the machine receives: 500M, 2G", \.rxLimit, isLive: true, rate),
        .init("tx-limit", "RATE", "bits a second that it sends", \.txLimit, isLive: true, rate),
        .init("mtu", "576-9000", "largest packet (1500)", \.mtu, number(576...9000)),
        .init("queues", "1-16", "pairs of queues, where the engine has more than one (1)", \.queues, number(1...16)),
        .init("cpu", "N", "processor that the switch has for itself", \.cpu, number(0...4095)),
        .init("name", "NAME", "name of the port (xe0, xe1 …)", \.name, word(longest: 12)),
    ]

    private static func word(longest: Int = .max) -> @Sendable (String) -> String? {
        { $0.isPlainWord && $0.count <= longest ? $0 : nil }
    }

    private static func number(_ range: ClosedRange<Int>) -> @Sendable (String) -> Int? {
        { Int($0).flatMap { range.contains($0) ? $0 : nil } }
    }

    @Sendable private static func filter(_ text: String) -> String? {
        text.trimmed.isEmpty ? nil : text.oneLine.trimmed
    }

    /// Bits a second, in decimal units as links are sold: `2G`, `500M`, `64k`, `1500000`.
    @Sendable private static func rate(_ text: String) -> UInt64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber || $0 == "." }
        let scales: [String: Double] = ["": 1, "K": 1e3, "M": 1e6, "G": 1e9]
        guard let number = Double(digits), let scale = scales[text.dropFirst(digits.count).uppercased()],
            (8000...1e12).contains(number * scale)
        else { return nil }
        return UInt64(number * scale)
    }
}

extension String {
    /// Split at commas; two commas stand for one, as in QEMU's options.
    fileprivate var optionParts: [String] {
        var parts = [""]
        var rest = self[...]
        while let character = rest.popFirst() {
            if character != "," {
                parts[parts.count - 1].append(character)
            } else if rest.first == "," {
                rest.removeFirst()
                parts[parts.count - 1].append(",")
            } else {
                parts.append("")
            }
        }
        return parts
    }

    package var isPlainWord: Bool {
        !isEmpty && first != "-" && allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_".contains($0)) }
    }
}

extension Substring {
    /// As the kernel takes them.
    fileprivate var isInterfaceName: Bool {
        (1...15).contains(utf8.count) && self != "." && self != ".."
            && allSatisfy { $0.isASCII && !$0.isWhitespace && $0 != "/" && $0 != ":" && $0 != "," }
    }
}
