import Model
import Values

/// What `status` and `ports` tell of a NIC port.
package struct PortStatus: Codable, Equatable {
    enum State: String, Codable {
        /// Its switch runs, and QEMU has not met it yet.
        case starting
        /// The machine has it, and its guest no driver for it yet.
        case connected
        case up
        /// Its switch does not run, and is tried again.
        case down
        /// The machine has the device itself.
        case passedThrough = "passed through"
    }

    struct Rates: Codable, Equatable {
        var rxPackets: UInt64 = 0
        var rxBits: UInt64 = 0
        var txPackets: UInt64 = 0
        var txBits: UInt64 = 0
    }

    package var name: String
    var guestName: String
    package var port: PortSource
    var engine: EngineName
    package var driver: String
    var mac: MACAddress?
    var state: State
    package var pid: Int32?
    var restarts: Int
    var cpu: Int?
    var node: Int?
    package var settings: PortSettings
    var counters: PortCounters?
    /// By the second, over the last one.
    var rates: Rates?
    /// The switch's last words, where it failed.
    var problem: String?

    package static func table(_ ports: [PortStatus]) -> String {
        let heads = [
            "PORT", "GUEST", "DEVICE", "ENGINE", "STATE", "LINK", "RX PACKETS", "RX/s", "RX bit/s", "RX DROPS",
            "TX PACKETS", "TX/s", "TX bit/s", "TX DROPS", "RESTARTS",
        ]
        return Table.text(heads, ports.map(\.row), right: 6..<15)
    }

    private func rate(_ value: UInt64?) -> String { value.map(\.inDecimalUnits) ?? "-" }

    private var row: [String] {
        let number = { (value: UInt64?) in value.map { "\($0)" } ?? "-" }
        return [
            name, guestName, "\(port)", "\(engine.rawValue) \(driver)", state.rawValue,
            counters?.hasLink.map { $0 ? "up" : "down" } ?? "-",
            number(counters?.rxPackets), rate(rates?.rxPackets), rate(rates?.rxBits), number(counters?.rxDrops),
            number(counters?.txPackets), rate(rates?.txPackets), rate(rates?.txBits), number(counters?.txDrops),
            "\(restarts)",
        ]
    }

    /// For the window of the port, which has 80 columns.
    var footer: String {
        "\(state.rawValue)  rx \(counters?.rxPackets ?? 0) (\(rate(rates?.rxBits))bit/s)"
            + "  tx \(counters?.txPackets ?? 0) (\(rate(rates?.txBits))bit/s)"
            + "  drops \(counters?.rxDrops ?? 0)/\(counters?.txDrops ?? 0)"
    }
}

/// Seen from the machine: rx is what it receives.
package struct PortCounters: Codable, Equatable {
    package var rxPackets: UInt64 = 0
    package var rxBytes: UInt64 = 0
    package var rxDrops: UInt64 = 0
    package var txPackets: UInt64 = 0
    package var txBytes: UInt64 = 0
    package var txDrops: UInt64 = 0
    /// Of the NIC; nil where the engine can't tell.
    package var hasLink: Bool?

    /// Field by field; the link is this one's.
    func combined(with other: PortCounters, _ operation: (UInt64, UInt64) -> UInt64) -> PortCounters {
        var result = self
        for field in [\PortCounters.rxPackets, \.rxBytes, \.rxDrops, \.txPackets, \.txBytes, \.txDrops] {
            result[keyPath: field] = operation(self[keyPath: field], other[keyPath: field])
        }
        return result
    }
}

extension UInt64 {
    /// 1500000 as 1.5M.
    var inDecimalUnits: String {
        for (name, scale) in [("G", UInt64(1_000_000_000)), ("M", 1_000_000), ("k", 1000)] where self >= scale {
            let tenths = self / (scale / 10)
            return tenths % 10 == 0 ? "\(tenths / 10)\(name)" : "\(tenths / 10).\(tenths % 10)\(name)"
        }
        return "\(self)"
    }
}
