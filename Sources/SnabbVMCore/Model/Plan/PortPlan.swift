/// One NIC port of the machine.
struct PortPlan: Codable, Equatable {
    var name: String
    /// As the guest counts its interfaces.
    var guestName: String
    var source: PortSource
    var engine: EngineName
    var driver: String
    /// nil where the device brings its own.
    var mac: MACAddress?
    var settings: PortSettings
    var node: Int?
    /// The processor that its switch has.
    var cpu: Int?
    var socket: String
    var settingsFile: String
    /// Of 2 MB, that the switch takes for itself.
    var hugepages = 0
}
