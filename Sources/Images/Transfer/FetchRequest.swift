import Model
import Values

/// What is asked of the process that fetches an image; it comes by its standard input, since a login may be in it.
package struct FetchRequest: Codable, Equatable {
    package enum Source: Codable, Equatable {
        case url(ImageURL)
        /// A file that is packed, or whose digest is to be looked at.
        case file(String)
        case oci(path: String, tag: String?)
    }

    package var source: Source
    package var cache: String
    /// Nobody named that folder.
    var cacheIsDefault = false
    var web = WebSettings()
    /// As --checksum has it.
    var checksum: String?
    var keyring: String?
    var format: DiskFormat?
    var member: String?
    var maxSize: UInt64?
    /// Where a machine is to read the image before it is all here.
    package var lazySocket: String?
    package var lazyOwner: User?
    /// What the server said of the image that a kept disk stands on.
    package var keptVersion: String?
    /// What a machine already runs on: an earlier process of this kind has died.
    var continued: DiskImage?
    /// Who unpacks.
    var worker: User?
    var qemuImg: String
    var gpgv: String?

    /// For people, and for the cache.
    package var shown: String {
        switch source {
        case .url(let address): address.shown
        case .file(let path): path
        case .oci(let path, let tag): "oci:\(path)" + (tag.map { ":\($0)" } ?? "")
        }
    }

    /// Whether an image that was fetched before is what is asked for now, whatever its server has by now.
    package func means(_ image: DiskImage) -> Bool {
        let literal: Digest? =
            if case .literal(let digest) = checksum.flatMap(ChecksumRequest.init) { digest } else { nil }
        return image.source == shown && (format == nil || format == image.format)
            && (member.map { wanted in image.member.map { wanted.means(member: $0) } ?? false } ?? true)
            && (literal == nil || literal?.description == image.digest)
    }

    var fileName: String {
        switch source {
        case .url(let address): address.fileName
        case .file(let path), .oci(let path, _): String(path.split(separator: "/").last ?? "")
        }
    }
}

/// What the fetching process tells, a line of JSON each.
enum FetchEvent: Codable {
    case note(String)
    case warning(String)
    case progress(FetchProgress)
    /// Here, whole, and right.
    case ready(DiskImage)
    /// It can be read at its socket; and what it must turn out to be.
    case served(DiskImage, Digest?)
    /// What was served is here now, whole and right.
    case whole
    case failed(Failure)
}

func say(_ event: FetchEvent) {
    if let json = try? JSON(encoding: event) { sayMessage(json) }
}
