/// Events are among the many words of DPDK's libraries; counters come once a second.
final class TestpmdReader: SwitchReader {
    private let machinePort: Int
    private var shown = PortCounters()
    private var port = -1

    init(machinePort: Int) { self.machinePort = machinePort }

    func read(_ line: String, isError: Bool) -> (event: SwitchEvent?, log: String?) {
        if line.contains("new device, handle is") { return (.connected, nil) }
        if line.contains("virtio is now ready for processing") { return (.up, nil) }
        if line.contains("vhost peer closed") { return (.disconnected, nil) }
        if line.contains("VHOST_USER_GET_VRING_BASE") { return (.down, nil) }
        if isError { return (nil, TestpmdReader.isChatter(line) ? nil : line) }
        readCounters(line)
        return (nil, nil)
    }

    private static func isChatter(_ line: String) -> Bool {
        let isProblem = ["fail", "error", "cannot", "invalid", "unable"].contains { line.lowercased().contains($0) }
        // It tries until QEMU is there.
        return !isProblem || line.contains("failed to connect")
    }

    /// `  RX-packets: 12   RX-missed: 0   RX-bytes:  345` below a headline that names the port.
    private func readCounters(_ line: String) {
        let words = line.split(separator: " ")
        if let headline = words.firstIndex(of: "statistics"), line.contains("####") {
            port = words.dropFirst(headline + 3).first.flatMap { Int($0) } ?? -1
        }
        guard port == machinePort else { return }
        for (key, value) in zip(words, words.dropFirst()) {
            guard let number = UInt64(value) else { continue }
            switch key {
            case "RX-packets:": shown.txPackets = number
            case "RX-bytes:": shown.txBytes = number
            case "RX-missed:": shown.txDrops = number
            case "TX-packets:": shown.rxPackets = number
            case "TX-bytes:": shown.rxBytes = number
            case "TX-errors:": shown.rxDrops = number
            default: break
            }
        }
    }

    func counters(pid: Int32) -> PortCounters? { port >= 0 ? shown : nil }
}
