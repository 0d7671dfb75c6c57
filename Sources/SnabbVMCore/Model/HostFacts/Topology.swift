extension HostFacts {
    /// Which processors there are to choose from, and where they are.
    struct Topology: Codable, Equatable {
        /// The processors that this process may use.
        var allowed: [Int]
        /// Those that the kernel keeps free of everything that is not put there by name.
        var isolated: [Int] = []
        /// Processors by NUMA node; empty where the kernel knows no nodes.
        var nodes: [Int: [Int]] = [:]
        /// For each processor those that share its core.
        var siblings: [Int: [Int]] = [:]

        func node(of cpu: Int) -> Int? { nodes.first { $0.value.contains(cpu) }?.key }
    }
}
