import Model
import Values

/// Which processors and memory the machine and its switches have.
package struct Layout: Codable, Equatable {
    /// Where the NICs are, so where the machine's memory is to be.
    package var node: Int?
    /// Where QEMU may run; nil for anywhere.
    package var machineCPUs: [Int]?
    /// By the ports' order.
    package var switchCPUs: [Int?] = []
}

/// Processors: each switch has one for itself, near its NIC; the machine has the others of that node.
enum LayoutPlanner {
    static func plan(
        _ requests: [PortRequest], _ arguments: Arguments, _ facts: HostFacts
    ) throws(Failure) -> PlanPart<Layout> {
        let topology = facts.topology ?? HostFacts.Topology(allowed: [])
        let nodes = requests.map { node(of: $0, facts) }
        var notes: [String] = []
        var layout = Layout(node: node(of: requests, facts))
        var taken: Set<Int> = []
        for cpu in arguments.switchCPUs + requests.compactMap(\.settings.cpu) where !topology.allowed.contains(cpu) {
            throw Failure(
                .usage, "give a switch", "processor \(cpu)", "it is not among those that snabbvm may use",
                remedy: "there is \(topology.allowed.ranges)")
        }
        var pool = arguments.switchCPUs
        for (index, request) in requests.enumerated() {
            let engine = request.settings.usedEngine
            guard engine.keys.contains("cpu") else {
                layout.switchCPUs.append(nil)
                continue
            }
            let node = nodes[index] ?? layout.node
            var cpu = request.settings.cpu
            if cpu == nil, !pool.isEmpty {
                let near = pool.firstIndex { node == nil || topology.node(of: $0) == node }
                cpu = pool.remove(at: near ?? 0)
            } else if cpu == nil, arguments.switchCPUs.isEmpty {
                cpu = topology.freeCPU(on: node, besides: taken)
            }
            if let cpu {
                if !taken.insert(cpu).inserted {
                    notes.append("port \(request.source) shares processor \(cpu) with another switch")
                }
                if let own = topology.node(of: cpu), let node = nodes[index], own != node {
                    notes.append("processor \(cpu) is on node \(own), and NIC \(request.source) on node \(node)")
                }
            } else {
                notes.append("no processor is left for the switch of port \(request.source) alone")
            }
            layout.switchCPUs.append(cpu)
        }
        layout.machineCPUs = topology.machineCPUs(on: layout.node, besides: taken)
        return PlanPart(decision: layout, notes: notes)
    }

    /// Where most of the NICs are.
    static func node(of requests: [PortRequest], _ facts: HostFacts) -> Int? {
        let nodes = requests.compactMap { node(of: $0, facts) }
        return Dictionary(grouping: nodes, by: \.self)
            .max { ($0.value.count, -$0.key) < ($1.value.count, -$1.key) }?.key
    }

    static func node(of request: PortRequest, _ facts: HostFacts) -> Int? {
        facts.nics?.first { $0.address == request.source.pciAddress }?.numaNode
    }
}

extension HostFacts.Topology {
    /// A processor for a switch alone: one that the kernel keeps free, or the last core of the node; never the last one
    /// that everything else has.
    fileprivate func freeCPU(on node: Int?, besides taken: Set<Int>) -> Int? {
        let near = node.flatMap { nodes[$0] } ?? allowed
        let busy = taken.union(taken.flatMap { siblings[$0] ?? [] })
        let free = allowed.filter { near.contains($0) && !busy.contains($0) }
        if let kept = free.first(where: isolated.contains) { return kept }
        // The first processor has the kernel's own work.
        guard allowed.count - busy.count > 1 else { return nil }
        return free.last { $0 != allowed.first }
    }

    /// Those that are left for the machine; nil when that is all of them.
    fileprivate func machineCPUs(on node: Int?, besides taken: Set<Int>) -> [Int]? {
        if taken.isEmpty && node == nil { return nil }
        // Neither the switches' processors nor, if there are others, what shares a core with them.
        let spare = allowed.filter { !taken.contains($0) && !isolated.contains($0) }
        let cores = taken.union(taken.flatMap { siblings[$0] ?? [] })
        let whole = spare.filter { !cores.contains($0) }
        let others = whole.isEmpty ? spare : whole
        let near = others.filter { cpu in node.flatMap { nodes[$0]?.contains(cpu) } ?? true }
        let chosen = near.isEmpty ? others : near
        return chosen.isEmpty || chosen == allowed ? nil : chosen
    }
}
