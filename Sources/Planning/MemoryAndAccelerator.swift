import Model
import Values

/// What the machine computes with: the processor's virtualisation or software, and which memory.
extension Plan {
    /// What of this a start with these options would be refused for.
    package static func refusals(_ arguments: Arguments, _ facts: HostFacts) -> [Failure] {
        var refusals: [Failure] = []
        do throws(Failure) { _ = try accelerator(arguments, facts) } catch { refusals.append(error) }
        do throws(Failure) { _ = try memory(arguments, facts) } catch { refusals.append(error) }
        if arguments.firmware == .uefi, facts.tools.firmwareVariables == nil { refusals.append(noFirmware) }
        return refusals
    }

    static var noFirmware: Failure {
        Failure(.host, "use", "--firmware uefi", "there is no UEFI firmware", remedy: "apt-get install ovmf")
    }

    static func accelerator(
        _ arguments: Arguments, _ facts: HostFacts
    ) throws(Failure) -> PlanPart<AcceleratorChoice> {
        let why: String
        switch facts.kvm.state {
        case .usable: return PlanPart(decision: arguments.accelerator == .tcg ? .tcg : .kvm)
        case .absent: why = "there is no /dev/kvm"
        case .notPermitted: why = "this user may not open /dev/kvm"
        case .cannotRunGuests:
            why = "/dev/kvm can't run ordinary guests here (\(facts.kvm.modules.joined(separator: ", ")) only)"
        }
        switch arguments.accelerator {
        case .tcg: return PlanPart(decision: .tcg)
        case .auto:
            let note = "no hardware virtualisation, so the machine runs many times slower: \(why)"
            return PlanPart(decision: .tcg, notes: [note])
        case .kvm: throw Failure(.host, "use", "--accel kvm", why, remedy: "--accel auto runs it in software here")
        }
    }

    static func memory(
        _ arguments: Arguments, _ facts: HostFacts, near node: Int? = nil
    ) throws(Failure) -> PlanPart<MemoryPlan> {
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
        return PlanPart(decision: MemoryPlan(size: wanted, node: node), notes: notes)
    }

    /// nil where ordinary memory is to be used.
    private static func hugepages(
        _ arguments: Arguments, _ facts: HostFacts, near node: Int?
    ) throws(Failure) -> MemoryPlan? {
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
        let needed = { (pool: HostFacts.HugepagePool) in
            Int((wanted.bytes + pool.pageSize.bytes - 1) / pool.pageSize.bytes)
        }
        let fitting = pools.filter { wanted.bytes % $0.pageSize.bytes == 0 }
        // One node's memory serves best, that of the NICs above all; the largest pages first, then where most is free.
        let rank = { (pool: HostFacts.HugepagePool) in
            (node != nil && pool.node == node ? 1 : 0, pool.pageSize.bytes, pool.free)
        }
        let ranked = fitting.filter { $0.free >= needed($0) }.sorted { rank($0) > rank($1) }
        let nodes = Set(facts.hugepages.compactMap(\.node)).count
        if let best = ranked.first {
            return MemoryPlan(size: wanted, pageSize: best.pageSize, node: nodes > 1 ? best.node : nil)
        }
        for (size, pools) in Dictionary(grouping: fitting, by: \.pageSize.bytes).sorted(by: { $0.key > $1.key })
        where pools.map(\.free).reduce(0, +) >= needed(pools[0]) {
            return MemoryPlan(size: wanted, pageSize: ByteCount(size))
        }
        let counted = pools.filter { $0.total > 0 }
        let small = (counted.isEmpty ? pools : counted).min { $0.pageSize < $1.pageSize }
        let pageSize = small?.pageSize ?? .mebibytes(2)
        let pages = (wanted.bytes + pageSize.bytes - 1) / pageSize.bytes
        let free = pools.filter { $0.pageSize == pageSize }.map(\.free).reduce(0, +)
        throw Failure(
            .host, "give the machine", "\(wanted) in hugepages", "\(free) of \(pageSize) are free, \(pages) are needed",
            remedy: "reserve more (sysctl vm.nr_hugepages), ask for less with --memory, or use --hugepages off")
    }
}
