import CLinux
import Glibc
import Model
import System
import Values

/// A disk out of a container image, from a layout in a folder or an archive of one.
struct OCIFetch {
    let worker: FetchWorker
    let path: String
    let tag: String?
    private var layout: OCILayout { OCILayout(path: path) }
    /// Where KubeVirt's containerDisk has it.
    private static let diskFolder = "disk"
    private static let longestText: UInt64 = 8 << 20

    func run(_ known: ImageCache.Entry?, _ expected: Digest?) throws {
        if let expected {
            // A folder has no digest, and what is in it has its own.
            if Files.isFolder(path) {
                throw Failure(
                    .usage, "use", "--checksum", "\(path) is a folder",
                    remedy: "leave it out: the blobs of a layout carry their digests")
            }
            try worker.compare(file: path, expected)
        }
        let (layers, version) = try layers()
        let validators = Validators(etag: "\"\(version)\"")
        if let known, known.record.validators == validators { return try worker.use(known, nil) }
        var removed: [String] = []
        for (name, digest) in layers {
            if try take(name, digest, validators, &removed) { return }
            if removed.contains("\(OCIFetch.diskFolder)/") { break }
        }
        throw Failure(
            .image, "use image", worker.request.shown, "none of its layers has a disk in /\(OCIFetch.diskFolder)",
            remedy: "give an image made as a containerDisk")
    }

    /// Each layer's name in the archive or layout, and its digest where the image tells it.
    private func layers() throws -> (layers: [(name: String, digest: Digest?)], version: String) {
        guard let index = try text("index.json") else {
            guard let list = try text("manifest.json") else {
                throw layout.unusable("it is no OCI layout and no archive of one: it has no index.json")
            }
            if Files.isFolder(path) {
                throw layout.unusable("it is an unpacked archive of docker save", "give the archive itself")
            }
            let names = try layout.layers(dockerManifest: list, tag: tag)
            // Names of layers are no digests in all archives.
            let (status, _) = try ImageInspection.open(path)
            let mark = "\(status.st_size) \(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
            return (names.map { ($0, nil) }, "\(names.joined(separator: " ")) \(mark)")
        }
        let found = try OCIIndex(index, path: path).manifest(tag: tag, read: blob)
        let layers = try layout.layers(manifest: try blob(found))
        return (layers.map { ($0.blobPath, $0.digest) }, found.digest.hex)
    }

    private func blob(_ descriptor: OCIDescriptor) throws -> [UInt8] {
        guard let bytes = try text(descriptor.blobPath) else {
            throw layout.unusable("its blob \(descriptor.digest) is missing", "copy it again")
        }
        var digester = try Digester(.sha256)
        bytes.withUnsafeBytes { digester.add($0) }
        try worker.compare(digester.digest, descriptor.digest)
        return bytes
    }

    /// A small file of the layout; nil where there is none.
    private func text(_ name: String) throws -> [UInt8]? {
        if Files.isFolder(path) { return try? Files.read("\(path)/\(name)", limit: Int(OCIFetch.longestText)) }
        do {
            let place = try extract(name, as: ".text", most: OCIFetch.longestText)
            defer { unlink(place) }
            return try Files.read(place, limit: Int(OCIFetch.longestText))
        } catch let failure as Failure where failure.kind == .noMember {
            // That it holds no such file is an answer.
            return nil
        }
    }

    private func extract(_ member: String, as suffix: String, most: UInt64?) throws -> String {
        let archive = try worker.open(path)
        let request = UnpackRequest(member: member, isExact: true, maxSize: most)
        let unpacking = try Unpacking(worker, archive.raw, request, suffix: suffix)
        unpacking.tellEnd(archive.size)
        do { try unpacking.finish() } catch {
            unpacking.discard()
            throw error
        }
        return unpacking.path
    }

    /// The disk of a layer into the cache; false where it has none.
    private func take(
        _ name: String, _ digest: Digest?, _ validators: Validators, _ removed: inout [String]
    ) throws -> Bool {
        let isFolder = Files.isFolder(path)
        let place = isFolder ? "\(path)/\(name)" : try extract(name, as: ".layer", most: nil)
        defer { if !isFolder { unlink(place) } }
        let (status, _) = try ImageInspection.open(place)
        let file = try worker.open(place)
        let request = UnpackRequest(worker.request, folder: OCIFetch.diskFolder, excluded: removed)
        let unpacking = try Unpacking(worker, file.raw, request)
        let found = try unpacking.take(whole: file, UInt64(status.st_size), digest, validators, packer: "oci")
        removed += unpacking.removed
        return found
    }
}
