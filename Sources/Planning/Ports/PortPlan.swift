import Model
import Values

/// One NIC port of the machine.
package struct PortPlan: Encodable, Equatable {
    package var name: String
    /// As the guest counts its interfaces.
    package var guestName: String
    package var source: PortSource
    package var engine: EngineName
    package var driver: String
    /// nil where the device brings its own.
    package var mac: MACAddress?
    package var settings: PortSettings
    package var node: Int?
    /// The processor that its switch has.
    package var cpu: Int?
    package var socket: String
    package var settingsFile: String
    /// Of 2 MB, that the switch takes for itself.
    package var hugepages = 0
}
