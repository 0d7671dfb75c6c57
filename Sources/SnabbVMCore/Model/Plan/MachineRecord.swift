/// What --state keeps beside the disk: who the machine is, and what its disk stands on.
struct MachineRecord: Codable, Equatable {
    var uuid: String
    var image: DiskImage?
    var diskFormat: DiskFormat?
    var diskSize: ByteCount?
    var isOverlay: Bool
}
