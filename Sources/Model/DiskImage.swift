import Values

/// What an image is, as its content and qemu-img say.
package struct DiskImage: Codable, Equatable {
    package var path: String
    package var format: DiskFormat
    package var virtualSize: ByteCount
    package var isBlockDevice: Bool
    /// What tells whether the file was changed since an overlay was put on it.
    package var fileSize: UInt64
    /// What a copy takes, where holes stay holes.
    package var allocated: UInt64
    package var modified: Int64
    /// How a qcow2 image is encrypted.
    package var encryption: String?
    /// Where it was fetched from, without what must not be shown.
    package var source: String?
    /// Of the file as it was fetched: the same image, whenever and wherever to.
    package var digest: String?
    /// Of the disk itself, where that is known.
    package var content: String?
    /// Which file of an archive the disk was.
    package var member: String?
    /// What told this state of the file from others on its server.
    package var version: String?
    package var device: DeviceStamp?
    /// Another program has it open for writing.
    package var isWritten: Bool?
    /// The socket at which it can be read while it is not all here yet.
    package var served: String?
}

extension DiskImage {
    /// A file of this length, before anybody has looked at its content.
    package init(path: String, format: DiskFormat, length: UInt64, modified: Int64) {
        self.init(
            path: path, format: format, virtualSize: ByteCount(length), isBlockDevice: false, fileSize: length,
            allocated: length, modified: modified)
    }

    /// For what is not known yet.
    package static var placeholder: DiskImage { DiskImage(path: "", format: .qcow2, length: 1, modified: 0) }
}
