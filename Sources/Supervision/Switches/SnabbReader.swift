import Model
import System
import Values

/// Events come as lines of JSON, counters from Snabb's own files.
final class SnabbReader: SwitchReader {
    private let root: String
    private let source: PortSource
    /// Of links and apps that are no more: changed settings replace those that they concern.
    private var past = PortCounters()
    private var last: [String: Count] = [:]

    private typealias Field = WritableKeyPath<PortCounters, UInt64>
    private typealias Count = (field: Field, value: UInt64)

    init(_ root: String, _ source: PortSource) {
        self.root = root
        self.source = source
    }

    func read(_ line: String, isError: Bool) -> (event: SwitchEvent?, log: String?) {
        let message = isError ? nil : try? JSON(parsing: line)
        let events: [String: SwitchEvent] = [
            "connected": .connected, "up": .up, "down": .down, "disconnected": .disconnected, "applied": .applied,
            "hugepage": .hugepageAdded, "refused": .refused(message?["reason"]?.string ?? "no reason given"),
        ]
        let event = message?["event"]?.string.flatMap { events[$0] }
        return (event, event == nil ? line : nil)
    }

    func counters(pid: Int32) -> PortCounters? {
        let folder = "\(root)/\(pid)"
        let now = counts(in: folder)
        if now.isEmpty { return nil }
        // A counter that is gone, or began again, does not take back what it had counted.
        for (path, before) in last where (now[path]?.value ?? 0) < before.value {
            past[keyPath: before.field] += before.value
        }
        last = now
        var result = past
        for count in now.values { result[keyPath: count.field] += count.value }
        result.hasLink = hasLink(folder)
        return result
    }

    /// Each of Snabb's counters that says something of the port, by its path.
    private func counts(in folder: String) -> [String: Count] {
        var counts: [String: Count] = [:]
        func add(_ path: String, _ field: Field) {
            if let value = SnabbReader.counter(path) { counts[path] = (field, value) }
        }
        for link in Files.names("\(folder)/links") {
            let counters = "\(folder)/links/\(link)"
            // "nic.tx -> filter_in.input": an app's output, and the next one's input.
            let ends = link.split(separator: " ").map(String.init)
            guard let from = ends.first, let to = ends.last else { continue }
            if from.hasPrefix("vm.") {
                add("\(counters)/rxpackets", \.txPackets)
                add("\(counters)/rxbytes", \.txBytes)
            }
            if to.hasPrefix("vm.") {
                add("\(counters)/rxpackets", \.rxPackets)
                add("\(counters)/rxbytes", \.rxBytes)
            }
            // What one app had no room to give to the next.
            add("\(counters)/txdrop", leadsToMachine(from, to) ? \.rxDrops : \.txDrops)
        }
        if counts.isEmpty { return [:] }
        for (app, counter, field) in SnabbReader.drops { add("\(folder)/apps/\(app)/\(counter)", field) }
        return counts
    }

    private func leadsToMachine(_ from: String, _ to: String) -> Bool {
        ["nic.", "filter_in.", "limit_in."].contains { from.hasPrefix($0) }
            || ["vm.", "filter_in.", "limit_in."].contains { to.hasPrefix($0) }
    }

    /// What apps drop themselves: filtered, beyond the limit, too large for the guest's buffers, while the guest has no
    /// driver, refused by the kernel.
    private static var drops: [(app: String, counter: String, field: Field)] {
        [
            ("filter_in", "rxerrors", \.rxDrops), ("limit_in", "txdrop", \.rxDrops), ("vm", "rxdrop", \.rxDrops),
            ("vm", "rxdown", \.rxDrops), ("nic", "rxdrop", \.rxDrops), ("filter_out", "rxerrors", \.txDrops),
            ("limit_out", "txdrop", \.txDrops), ("vm", "txdrop", \.txDrops), ("nic", "txdrop", \.txDrops),
        ]
    }

    /// Eight bytes in the machine's own order.
    private static func counter(_ path: String) -> UInt64? {
        guard let bytes = try? Files.read("\(path).counter", limit: 8), bytes.count == 8 else { return nil }
        return bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    }

    /// As Snabb's driver sees it, or the kernel where the port is an interface of its.
    private func hasLink(_ folder: String) -> Bool? {
        switch source {
        case .interface(let name), .tap(let name):
            return FileTree().number("/sys/class/net/\(name)/carrier").map { $0 == 1 }
        case .pci(let address):
            let bus = address.domain == 0 ? String("\(address)".dropFirst(5)) : "\(address)"
            let status =
                SnabbReader.counter("\(root)/intel-mp/\(bus)/stats/status")
                ?? SnabbReader.counter("\(folder)/pci/\(bus)/status")
            return status.map { $0 == 1 }
        }
    }
}
