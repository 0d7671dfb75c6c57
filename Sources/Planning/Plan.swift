import Model
import Values

/// All that will be done, decided before anything is done, and put together once.
package struct Plan: Encodable, Equatable {
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

    /// What QEMU and the launcher speak by.
    package static let sockets = ["serial", "qmp", "agent"]

    package struct MemoryPlan: Codable, Equatable {
        package var size: ByteCount
        package var pageSize: ByteCount?
        package var node: Int?
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
    }
}

extension Plan {
    /// The plan as a script: what would be done, in order, each command as it would be typed.
    package var shellText: String {
        var lines = ["# What snabbvm would do for machine '\(name)'. Nothing has been touched."]
        lines += notes.map { "# Note: \($0.oneLine)" }
        lines += ["", "# Make what the machine needs"]
        lines += effects.map(\.shellText)
        for service in services where !service.isDaemon {
            lines += ["", "# \(service.purpose)", "\(service.command.shellText) \(Plan.remembered)"]
        }
        lines += ["", "# Start it"]
        let owner = qemu.user.map { "-o \($0.uid) -g \($0.gid) " } ?? ""
        lines += ["install -d -m 700 \(owner)\(folders.sockets.shellQuoted)", qemu.shellText]
        for service in services where service.isDaemon {
            lines += ["", "# \(service.purpose)", service.command.shellText]
        }
        let undone = effects.reversed().compactMap { $0.undoText(folders) }
        let ending = lines.contains { $0.hasSuffix(Plan.remembered) } ? ["kill $started"] : []
        lines += ["", "# When it ends, give back"] + ending
        lines += ["rm -r \(folders.sockets.shellQuoted)"] + undone
        return lines.joined(separator: "\n")
    }

    private static let remembered = "& started=\"$started $!\""
}

/// What a planner decides, and what follows from it: for the host, beside the machine, and for the user to know.
struct PlanPart<Decision> {
    var decision: Decision
    var effects: [Effect] = []
    var services: [ServicePlan] = []
    var notes: [String] = []
}
