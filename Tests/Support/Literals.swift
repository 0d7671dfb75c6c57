@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import System
@testable import Values

/// Addresses as tests write them; a wrong one ends the test.
extension PCIAddress: ExpressibleByStringLiteral {
    public init(stringLiteral text: String) { self.init(text)! }
}

extension MACAddress: ExpressibleByStringLiteral {
    public init(stringLiteral text: String) { self.init(text)! }
}
