import Values

/// All that will be done, decided before anything is done, and put together once.
package struct Plan: Codable, Equatable {
    package var name: String
    package var uuid: String
    package var folders: MachinePaths
    /// Lines for the user: what is not as one might expect.
    package var notes: [String]
    package var accelerator: AcceleratorChoice
    package var memory: MemoryPlan
    package var cpus: Int
    package var firmware: Firmware
    package var disks: [DiskPlan]
    /// The user's file with the passphrase of an encrypted image.
    var secretSource: String?
    package var guestNICs: [GuestNICPlan]
    package var vnc: SocketAddress?
    /// Leads to the guest's SSH server, where that can't be arranged later.
    package var sshPort: Int?
    package var ports: [PortPlan]
    /// The ports as the command line has them, which the file can't change.
    package var portRequests: [PortRequest]
    package var portsFile: String?
    package var layout: Layout?
    /// What is done to the host, in order.
    package var effects: [Effect]
    /// What runs beside the machine, in the order in which it is started.
    package var services: [ServicePlan]
    package var qemu: Command
    package var stopTimeout: Double

    package init(
        name: String, uuid: String, folders: MachinePaths, notes: [String], accelerator: AcceleratorChoice,
        memory: MemoryPlan, cpus: Int, firmware: Firmware, disks: [DiskPlan], secretSource: String? = nil,
        guestNICs: [GuestNICPlan], vnc: SocketAddress? = nil, sshPort: Int? = nil, ports: [PortPlan],
        portRequests: [PortRequest], portsFile: String? = nil, layout: Layout? = nil, effects: [Effect],
        services: [ServicePlan], qemu: Command, stopTimeout: Double
    ) {
        self.name = name
        self.uuid = uuid
        self.folders = folders
        self.notes = notes
        self.accelerator = accelerator
        self.memory = memory
        self.cpus = cpus
        self.firmware = firmware
        self.disks = disks
        self.secretSource = secretSource
        self.guestNICs = guestNICs
        self.vnc = vnc
        self.sshPort = sshPort
        self.ports = ports
        self.portRequests = portRequests
        self.portsFile = portsFile
        self.layout = layout
        self.effects = effects
        self.services = services
        self.qemu = qemu
        self.stopTimeout = stopTimeout
    }

    package struct MemoryPlan: Codable, Equatable {
        package var size: ByteCount
        package var pageSize: ByteCount?
        package var node: Int?

        package init(size: ByteCount, pageSize: ByteCount? = nil, node: Int? = nil) {
            self.size = size
            self.pageSize = pageSize
            self.node = node
        }
    }

    package struct DiskPlan: Codable, Equatable {
        package enum Role: String, Codable { case disk, cdrom, seed }
        package var role: Role
        package var path: String
        /// The image that it is an overlay on.
        package var base: DiskImage?
        package var format: DiskFormat
        package var size: ByteCount?
        package var isDevice = false
        /// The socket at which it is read, while it is not all here.
        package var served: String?

        package init(
            role: Role, path: String, base: DiskImage? = nil, format: DiskFormat, size: ByteCount? = nil,
            isDevice: Bool = false, served: String? = nil
        ) {
            self.role = role
            self.path = path
            self.base = base
            self.format = format
            self.size = size
            self.isDevice = isDevice
            self.served = served
        }
    }
}

/// What a planner decides, and what follows from it: for the host, beside the machine, and for the user to know.
package struct PlanPart<Decision> {
    package var decision: Decision
    package var effects: [Effect] = []
    package var services: [ServicePlan] = []
    package var notes: [String] = []

    package init(decision: Decision, effects: [Effect] = [], services: [ServicePlan] = [], notes: [String] = []) {
        self.decision = decision
        self.effects = effects
        self.services = services
        self.notes = notes
    }
}
