/// Which processors and memory the machine and its switches have.
struct Layout: Codable, Equatable {
    /// Where the NICs are, so where the machine's memory is to be.
    var node: Int?
    /// Where QEMU may run; nil for anywhere.
    var machineCPUs: [Int]?
    /// By the ports' order.
    var switchCPUs: [Int?] = []
}
