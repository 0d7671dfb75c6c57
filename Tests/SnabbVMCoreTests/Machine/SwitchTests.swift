import Foundation
import Testing

@testable import SnabbVMCore

/// What is cured of Snabb's vhost-user and drivers: each failure is shown without its cure, and its absence with it.
@Suite(
    .enabled(if: Parts.has("snabb"), "snabb is not installed"), .enabled(if: Parts.isRoot, "only root may"), .serialized
)
struct SwitchTests {
    private static let script = "\(Parts.package)/Tests/switch/cure"

    private static let cures: [String] =
        (try? run(script, ["--list"]).output.split(separator: "\n").map(String.init)) ?? []

    @Test func thereAreCures() { #expect(SwitchTests.cures.count > 20) }

    @Test(arguments: cures.filter { !$0.hasPrefix("virtio-") })
    func cure(_ name: String) throws {
        let outcome = try run(SwitchTests.script, [name])
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
    }

    /// Those of the driver for virtio-net by PCI address, in a machine that has such an NIC.
    @Test(
        .enabled(if: Parts.hasDemo, "the demo machine, QEMU, tmux or xorriso is missing (make demo)"),
        arguments: cures.filter { $0.hasPrefix("virtio-") })
    func cureOfTheDriver(_ name: String) throws {
        let outcome = try run(SwitchTests.script, [name])
        #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
    }
}
