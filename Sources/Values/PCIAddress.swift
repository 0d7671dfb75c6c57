/// Where a PCI function is: `0000:05:00.0`.
package struct PCIAddress: Hashable, Comparable, TextCodable {
    package var domain: UInt32
    var bus: UInt8
    package var device: UInt8
    var function: UInt8

    package init(domain: UInt32, bus: UInt8, device: UInt8, function: UInt8) {
        self.domain = domain
        self.bus = bus
        self.device = device
        self.function = function
    }

    /// The full address, or as in `05:00.0` without a domain, which is 0 then.
    package init?(_ text: String) {
        var fields = text.split(separator: ":", omittingEmptySubsequences: false)
        guard (2...3).contains(fields.count), let last = fields.popLast() else { return nil }
        let ends = last.split(separator: ".", omittingEmptySubsequences: false)
        guard ends.count == 2 else { return nil }
        let hex = { (part: Substring, digits: ClosedRange<Int>, most: UInt32) -> UInt32? in
            guard digits.contains(part.count), part.allSatisfy(\.isHexDigit) else { return nil }
            return UInt32(part, radix: 16).flatMap { $0 <= most ? $0 : nil }
        }
        guard let bus = hex(fields.removeLast(), 1...2, 255), let device = hex(ends[0], 1...2, 31),
            let function = hex(ends[1], 1...1, 7), let domain = hex(fields.last ?? "0", 1...8, .max)
        else { return nil }
        self.init(domain: domain, bus: UInt8(bus), device: UInt8(device), function: UInt8(function))
    }

    package static func < (a: PCIAddress, b: PCIAddress) -> Bool {
        (a.domain, a.bus, a.device, a.function) < (b.domain, b.bus, b.device, b.function)
    }

    /// Where the kernel shows it.
    package var folder: String { "/sys/bus/pci/devices/\(self)" }

    package var description: String {
        "\(hexadecimal(UInt64(domain), digits: 4)):\(hexadecimal(UInt64(bus), digits: 2)):"
            + "\(hexadecimal(UInt64(device), digits: 2)).\(function)"
    }
}
