import Model
import Planning

/// What a port's program has to tell.
enum SwitchEvent: Equatable {
    /// It has the machine's socket.
    case connected
    /// The guest's driver works with it: frames flow.
    case up
    case down
    case disconnected
    /// Changed settings are in force.
    case applied
    case refused(String)
    /// It had too few hugepages for what came, and took one more from the host.
    case hugepageAdded
}

/// The programs' words and counters, each in its own way.
protocol SwitchReader: AnyObject {
    /// A line of its output or errors: an event, or something for the log, or neither.
    func read(_ line: String, isError: Bool) -> (event: SwitchEvent?, log: String?)
    func counters(pid: Int32) -> PortCounters?
}

extension EngineName {
    /// Understands what the engine's program says; nil where there is none.
    func makeReader(for port: PortPlan, _ folders: MachinePaths) -> (any SwitchReader)? {
        switch self {
        case .snabb: SnabbReader(folders.snabb, port.source)
        // DPDK counts its ports as it finds them: PCI devices come before what is made for the occasion.
        case .dpdk: TestpmdReader(machinePort: port.source.pciAddress == nil ? 0 : 1)
        case .vfio: nil
        }
    }
}
