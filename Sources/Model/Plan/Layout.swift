/// Which processors and memory the machine and its switches have.
package struct Layout: Codable, Equatable {
    /// Where the NICs are, so where the machine's memory is to be.
    package var node: Int?
    /// Where QEMU may run; nil for anywhere.
    package var machineCPUs: [Int]?
    /// By the ports' order.
    package var switchCPUs: [Int?] = []

    package init(node: Int? = nil, machineCPUs: [Int]? = nil, switchCPUs: [Int?] = []) {
        self.node = node
        self.machineCPUs = machineCPUs
        self.switchCPUs = switchCPUs
    }
}
