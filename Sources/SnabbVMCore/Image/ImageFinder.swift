import Glibc

/// Finds the files that a user names: where the container mounts the user's folder, then in the working folder.
struct ImageFinder {
    var sharedFolder = "/u"
    var demoFolder: String

    func find(_ name: String, what: String, kind: FailureKind = .image) throws(Failure) -> String {
        if let scheme = name.range(ofScheme: "://") {
            throw Failure(
                kind, "use \(what)", name.withoutCredentials, "\(scheme) addresses can't be fetched yet",
                remedy: "download it, and give the file")
        }
        let places = name.hasPrefix("/") ? [name] : ["\(sharedFolder)/\(name)", Files.absolute(name)]
        guard let path = places.first(where: { access($0, F_OK) == 0 }) else {
            let near = nearest(name, places)
            throw Failure(
                kind, "find \(what)", name,
                name.hasPrefix("/")
                    ? "there is no such file" : "it is neither in \(sharedFolder) nor in \(Files.currentFolder)",
                remedy: near.map { "did you mean \($0)?" })
        }
        if Files.isFolder(path) { throw Failure(kind, "use \(what)", path, "it is a folder") }
        do throws(Errno) {
            _ = try Descriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
            return try Files.resolved(path)
        } catch {
            throw Failure(kind, "read \(what)", path, error)
        }
    }

    /// The demo machine, made when the program was built.
    func demo() throws(Failure) -> String {
        let path = "\(demoFolder)/demo.iso"
        guard access(path, R_OK) == 0 else {
            throw Failure(
                .image, "find", "the demo machine", "there is no \(path)",
                remedy: "make it with `make demo`, or say where it is with --share-dir")
        }
        return path
    }

    private func nearest(_ name: String, _ places: [String]) -> String? {
        let parts = name.split(separator: "/")
        guard let last = parts.last else { return nil }
        let folders = places.map { String($0.dropLast(last.count)) }
        return String(last).nearest(among: folders.flatMap { Files.names($0) })
    }
}

extension String {
    /// The scheme, when this is an address such as https://….
    fileprivate func range(ofScheme separator: String) -> String? {
        let scheme = prefix { $0.isASCII && ($0.isLetter || $0.isNumber || "+-.".contains($0)) }
        return !scheme.isEmpty && dropFirst(scheme.count).hasPrefix(separator) ? String(scheme) : nil
    }

    /// An address can hold a password.
    fileprivate var withoutCredentials: String {
        guard let start = firstIndex(of: "/"), let at = lastIndex(of: "@"), at > start else { return self }
        return String(self[...start]) + "/" + self[index(after: at)...]
    }
}
