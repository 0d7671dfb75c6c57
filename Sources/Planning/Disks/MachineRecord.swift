import Model
import Values

/// What --state keeps beside the disk: who the machine is, and what its disk stands on.
package struct MachineRecord: Codable, Equatable {
    package var uuid: String
    package var image: DiskImage?
    package var diskFormat: DiskFormat?
    package var diskSize: ByteCount?
    package var isOverlay: Bool
}
