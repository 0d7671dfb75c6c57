extension HostFacts {
    /// Which processors there are to choose from, and where they are.
    package struct Topology: Codable, Equatable {
        /// The processors that this process may use.
        package var allowed: [Int]
        /// Those that the kernel keeps free of everything that is not put there by name.
        package var isolated: [Int] = []
        /// Processors by NUMA node; empty where the kernel knows no nodes.
        package var nodes: [Int: [Int]] = [:]
        /// For each processor those that share its core.
        package var siblings: [Int: [Int]] = [:]

        package init(allowed: [Int], isolated: [Int] = [], nodes: [Int: [Int]] = [:], siblings: [Int: [Int]] = [:]) {
            self.allowed = allowed
            self.isolated = isolated
            self.nodes = nodes
            self.siblings = siblings
        }

        package func node(of cpu: Int) -> Int? { nodes.first { $0.value.contains(cpu) }?.key }
    }
}
