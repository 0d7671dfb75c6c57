@testable import SnabbVMCore

/// Addresses as tests write them; a wrong one ends the test.
extension PCIAddress: ExpressibleByStringLiteral {
    public init(stringLiteral text: String) { self.init(text)! }
}

extension MACAddress: ExpressibleByStringLiteral {
    public init(stringLiteral text: String) { self.init(text)! }
}
