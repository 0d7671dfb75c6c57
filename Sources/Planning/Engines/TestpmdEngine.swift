import Model
import Values

/// DPDK's testpmd, which forwards frames as they come: for NICs that Snabb has no driver for, and where Snabb is not
/// installed.
struct TestpmdEngine: PortEngine {
    let name = EngineName.dpdk
    let keys: Set<String> = ["engine", "driver", "mac", "mtu", "queues", "cpu", "name"]
    let limits = "testpmd forwards frames as they are; engine=snabb has VLANs, filters and limits"
    let hasMultiQueueTaps = true
    let supported = "any NIC of DPDK's"

    func driver(for device: PortDevice, _ settings: PortSettings) -> String? {
        switch device {
        case .nic(let nic) where nic.isNIC && settings.driver == nil: nic.isBifurcated ? "mlx5" : "dpdk"
        case .nic: nil
        case .interface: ["af_packet", "af_xdp"].first { $0 == settings.driver ?? "af_packet" }
        case .tap: settings.driver == nil ? "tap" : nil
        }
    }

    /// What it can't have in hugepages it does with ordinary memory.
    private static let wantedHugepages = 40

    func leavesProgram(_ driver: String) -> Bool { driver == "af_xdp" }

    func holder(of nic: HostFacts.NIC) -> NICHolder { nic.isBifurcated ? .ownDriver : .vfio }

    func command(for port: PortPlan, _ context: inout EngineContext) throws(Failure) -> Command? {
        guard let testpmd = context.facts.tools.testpmd else {
            throw Failure.missing("dpdk-testpmd, which is to be the switch of port \(port.name)", package: "dpdk-dev")
        }
        let queues = port.settings.queues ?? 1
        let isJumbo = (port.settings.mtu ?? 1500) > 1500
        // The first only looks after the second, which moves the frames.
        let first = "0@(\(context.floatingCPUs))"
        var words = ["--lcores", port.cpu.map { "\(first),1@\($0)" } ?? "\(first),1@(\(context.floatingCPUs))"]
        if context.freeHugepages >= TestpmdEngine.wantedHugepages {
            context.freeHugepages -= TestpmdEngine.wantedHugepages
            words += ["--in-memory", "-m", "64"]
        } else {
            words += ["--no-huge", "-m", "256"]
        }
        words += ["--no-telemetry", "--iova-mode=va"]
        words += ["--vdev", "net_vhost0,iface=\(port.socket),client=1,queues=\(queues)"]
        switch port.source {
        case .pci(let address): words += ["-a", "\(address)"]
        case .interface(let name) where port.driver == "af_xdp":
            words += ["--no-pci", "--vdev", "net_af_xdp0,iface=\(name),queue_count=\(queues)"]
        case .interface(let name):
            let frames = isJumbo ? ",blocksz=65536,framesz=16384,framecnt=512" : ""
            words += ["--no-pci", "--vdev", "net_af_packet0,iface=\(name),qpairs=\(queues)\(frames)"]
        case .tap(let name): words += ["--no-pci", "--vdev", "net_tap0,iface=\(name)"]
        }
        words += ["--", "--forward-mode=io", "--no-mlockall", "--stats-period=1", "--rxq=\(queues)", "--txq=\(queues)"]
        // Frames that a jumbo packet would be spread over, vhost and the interface would cut differently.
        words +=
            isJumbo
            ? ["--mbuf-size=10240", "--max-pkt-len=9600", "--total-num-mbufs=4096"] : ["--total-num-mbufs=16384"]
        return Command(program: testpmd, arguments: words)
    }
}

extension HostFacts.NIC {
    /// Mellanox's cards are driven by the kernel and by DPDK at once.
    fileprivate var isBifurcated: Bool { id.hasPrefix("15b3:") }
}
