import Values

/// One NIC port of the machine.
package struct PortPlan: Codable, Equatable {
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

    package init(
        name: String, guestName: String, source: PortSource, engine: EngineName, driver: String, mac: MACAddress? = nil,
        settings: PortSettings, node: Int? = nil, cpu: Int? = nil, socket: String, settingsFile: String,
        hugepages: Int = 0
    ) {
        self.name = name
        self.guestName = guestName
        self.source = source
        self.engine = engine
        self.driver = driver
        self.mac = mac
        self.settings = settings
        self.node = node
        self.cpu = cpu
        self.socket = socket
        self.settingsFile = settingsFile
        self.hugepages = hugepages
    }
}
