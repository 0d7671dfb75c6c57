import Glibc
import Values

/// Finds the files that a user names: where the container mounts the user's folder, then in the working folder.
package struct FileFinder {
    private let sharedFolder: String

    package init(sharedFolder: String = "/u") { self.sharedFolder = sharedFolder }

    /// `others` knows more names that could have been meant.
    package func find(
        _ name: String, what: String, kind: FailureKind = .image, others: (String) -> String? = { _ in nil }
    ) throws(Failure) -> String {
        if let address = ImageURL(name) {
            throw Failure(
                kind, "use \(what)", address.shown, "only images are fetched", remedy: "download it, and give the file")
        }
        let places = places(name)
        guard let path = places.first(where: { access($0, F_OK) == 0 }) else {
            let near = nearest(name, places) ?? others(name)
            throw Failure(
                kind, "find \(what)", name,
                name.hasPrefix("/")
                    ? "there is no such file" : "it is neither in \(sharedFolder) nor in \(Files.currentFolder)",
                remedy: near.map { "did you mean \($0)?" })
        }
        if Files.isFolder(path) { throw Failure(kind, "use \(what)", path, "it is a folder") }
        _ = try HeldDescriptor(opening: path, O_RDONLY | O_NONBLOCK | O_NOCTTY, kind, "read \(what)")
        return try Failure.naming(kind, "read \(what)", path, try Files.resolved(path))
    }

    package func places(_ name: String) -> [String] {
        name.hasPrefix("/") ? [name] : ["\(sharedFolder)/\(name)", Files.absolute(name)]
    }

    private func nearest(_ name: String, _ places: [String]) -> String? {
        let parts = name.split(separator: "/")
        guard let last = parts.last else { return nil }
        let folders = places.map { String($0.dropLast(last.count)) }
        return String(last).nearest(among: folders.flatMap { Files.names($0) })
    }
}
