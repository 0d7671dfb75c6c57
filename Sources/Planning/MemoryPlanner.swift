import Model
import Values

/// Which memory the machine has: hugepages where there are any, and else the ordinary.
enum MemoryPlanner {
    static func plan(
        _ arguments: Arguments, _ facts: HostFacts, near node: Int? = nil
    ) throws(Failure) -> PlanPart<Plan.MemoryPlan> {
        let wanted = arguments.memory
        guard wanted >= .mebibytes(16), wanted.bytes % (1 << 20) == 0 else {
            throw Failure(.usage, "use", "--memory \(wanted)", "it is not a whole number of MB, 16 at least")
        }
        if let plan = try hugepages(arguments, facts, near: node) { return PlanPart(decision: plan) }
        var notes: [String] = []
        if arguments.hugepages == .auto {
            notes.append("no hugepages on this host, so the machine has ordinary memory")
        }
        let most = min(facts.memory.total, facts.memory.limit ?? facts.memory.total)
        if wanted > most {
            let whose = facts.memory.limit == nil ? "the host has" : "the container may use"
            throw Failure(
                .host, "give the machine", "\(wanted) of memory", "\(whose) \(most)",
                remedy: "ask for less with --memory")
        }
        if wanted > facts.memory.available {
            notes.append("the machine may come to use \(wanted), and \(facts.memory.available) are available now")
        }
        return PlanPart(decision: Plan.MemoryPlan(size: wanted, node: node), notes: notes)
    }

    /// nil where ordinary memory is to be used.
    private static func hugepages(
        _ arguments: Arguments, _ facts: HostFacts, near node: Int?
    ) throws(Failure) -> Plan.MemoryPlan? {
        var pools = facts.hugepages
        switch arguments.hugepages {
        case .off: return nil
        case .auto:
            pools = pools.filter { $0.total > 0 }
            if pools.isEmpty { return nil }
        case .required: break
        case .size(let size): pools = pools.filter { $0.pageSize == size }
        }
        let wanted = arguments.memory
        let pages = { (size: ByteCount) in Int((wanted.bytes + size.bytes - 1) / size.bytes) }
        let fitting = pools.filter { wanted.bytes % $0.pageSize.bytes == 0 }
        // One node's memory serves best, that of the NICs above all; the largest pages first, then where most is free.
        let rank = { (pool: HostFacts.HugepagePool) in
            (node != nil && pool.node == node ? 1 : 0, pool.pageSize.bytes, pool.free)
        }
        let ranked = fitting.filter { $0.free >= pages($0.pageSize) }.sorted { rank($0) > rank($1) }
        let nodes = Set(facts.hugepages.compactMap(\.node)).count
        if let best = ranked.first {
            return Plan.MemoryPlan(size: wanted, pageSize: best.pageSize, node: nodes > 1 ? best.node : nil)
        }
        let free = { (size: ByteCount) in pools.filter { $0.pageSize == size }.map(\.free).reduce(0, +) }
        if let size = fitting.map(\.pageSize).sorted(by: >).first(where: { free($0) >= pages($0) }) {
            return Plan.MemoryPlan(size: wanted, pageSize: size)
        }
        let counted = pools.filter { $0.total > 0 }
        let small = (counted.isEmpty ? pools : counted).min { $0.pageSize < $1.pageSize }
        let pageSize = small?.pageSize ?? .mebibytes(2)
        throw Failure(
            .host, "give the machine", "\(wanted) in hugepages",
            "\(free(pageSize)) of \(pageSize) are free, \(pages(pageSize)) are needed",
            remedy: "reserve more (sysctl vm.nr_hugepages), ask for less with --memory, or use --hugepages off")
    }
}
