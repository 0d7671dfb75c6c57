/// What an image is, as its content and qemu-img say.
struct DiskImage: Codable, Equatable {
    var path: String
    var format: DiskFormat
    var virtualSize: ByteCount
    var isBlockDevice: Bool
    /// What tells whether the file was changed since an overlay was put on it.
    var fileSize: UInt64
    /// What a copy takes, where holes stay holes.
    var allocated: UInt64
    var modified: Int64
    /// How a qcow2 image is encrypted.
    var encryption: String?
    /// Where it was fetched from, without what must not be shown.
    var source: String?
    /// Of the file as it was fetched: the same image, whenever and wherever to.
    var digest: String?
    /// The socket at which it can be read while it is not all here yet.
    var served: String?

    /// For what is not known yet.
    static var placeholder: DiskImage {
        DiskImage(
            path: "", format: .qcow2, virtualSize: ByteCount(1), isBlockDevice: false, fileSize: 1, allocated: 1,
            modified: 0)
    }
}
