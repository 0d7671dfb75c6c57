import Values

/// What --state keeps beside the disk: who the machine is, and what its disk stands on.
package struct MachineRecord: Codable, Equatable {
    package var uuid: String
    package var image: DiskImage?
    package var diskFormat: DiskFormat?
    package var diskSize: ByteCount?
    package var isOverlay: Bool

    package init(
        uuid: String, image: DiskImage? = nil, diskFormat: DiskFormat? = nil, diskSize: ByteCount? = nil,
        isOverlay: Bool
    ) {
        self.uuid = uuid
        self.image = image
        self.diskFormat = diskFormat
        self.diskSize = diskSize
        self.isOverlay = isOverlay
    }
}
