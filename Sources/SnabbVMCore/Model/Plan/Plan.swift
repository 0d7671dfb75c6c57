/// All that will be done, decided before anything is done, and put together once.
struct Plan: Codable, Equatable {
    var name: String
    var uuid: String
    var folders: MachinePaths
    /// Lines for the user: what is not as one might expect.
    var notes: [String]
    var accelerator: AcceleratorChoice
    var memory: MemoryPlan
    var cpus: Int
    var firmware: Firmware
    var disks: [DiskPlan]
    /// The user's file with the passphrase of an encrypted image.
    var secretSource: String?
    var guestNICs: [GuestNICPlan]
    var vnc: SocketAddress?
    /// Leads to the guest's SSH server, where that can't be arranged later.
    var sshPort: Int?
    var ports: [PortPlan]
    /// The ports as the command line has them, which the file can't change.
    var portRequests: [PortRequest]
    var portsFile: String?
    var layout: Layout?
    /// What is done to the host, in order.
    var effects: [Effect]
    /// What runs beside the machine, in the order in which it is started.
    var services: [ServicePlan]
    var qemu: Command
    var stopTimeout: Double

    struct MemoryPlan: Codable, Equatable {
        var size: ByteCount
        var pageSize: ByteCount?
        var node: Int?
    }

    struct DiskPlan: Codable, Equatable {
        enum Role: String, Codable { case disk, cdrom, seed }
        var role: Role
        var path: String
        /// The image that it is an overlay on.
        var base: DiskImage?
        var format: DiskFormat
        var size: ByteCount?
        var isDevice = false
        /// The socket at which it is read, while it is not all here.
        var served: String?
    }
}

/// What a planner decides, and what follows from it: for the host, beside the machine, and for the user to know.
struct PlanPart<Decision> {
    var decision: Decision
    var effects: [Effect] = []
    var services: [ServicePlan] = []
    var notes: [String] = []
}
