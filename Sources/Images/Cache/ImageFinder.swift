import Glibc
import Model
import System
import Values

/// Where an image is: a disk to be used as it is, or what must be fetched or unpacked first.
package enum ImageLocation: Equatable {
    case disk(String, DiskFormat?)
    case fetch(FetchRequest)

    package var request: FetchRequest? { if case .fetch(let request) = self { request } else { nil } }
}

/// Finds images by what a user calls them.
package struct ImageFinder {
    package let files: FileFinder
    private let demoFolder: String
    /// Lists of names for images, the last word last.
    private let catalogs: [String]
    /// Where fetched images are kept.
    private let cache: String

    package init(files: FileFinder = FileFinder(), demoFolder: String, catalogs: [String] = [], cache: String = "") {
        self.files = files
        self.demoFolder = demoFolder
        self.catalogs = catalogs
        self.cache = cache
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

    /// Files come before names of the list, which could be given to any.
    package func locate(_ name: String, _ arguments: Arguments, _ facts: HostFacts) throws(Failure) -> ImageLocation {
        if name == "demo" { return .disk(try demo(), arguments.format) }
        guard let qemuImg = facts.tools.qemuImg else { throw Failure.missing("qemu-img", package: "qemu-utils") }
        var request = FetchRequest(
            source: .file(name), cache: cache, cacheIsDefault: arguments.cache == nil, web: arguments.web,
            checksum: arguments.checksum, format: arguments.format, member: arguments.member,
            maxSize: arguments.maxSize?.bytes, worker: facts.privileges.qemuUser, qemuImg: qemuImg,
            gpgv: Files.findProgram("gpgv"))
        request.web.headers = []
        for text in arguments.web.headers { request.web.headers += try headers(text) }
        if let file = arguments.web.caCertificates {
            request.web.caCertificates = try files.find(file, what: "file of certificates", kind: .usage)
        }
        if let keyring = arguments.keyring { request.keyring = try files.find(keyring, what: "keyring", kind: .usage) }
        if let checksum = arguments.checksum, case .list(let list) = ChecksumRequest(checksum), ImageURL(list) == nil {
            request.checksum = try files.find(list, what: "list of checksums", kind: .usage)
        }
        if let reference = OCIReference.parse(name, exists: isThere) {
            request.source = .oci(path: try folderOrFile(reference.path), tag: reference.tag)
            return .fetch(request)
        }
        if let address = ImageURL(name) { return try locate(address, &request) }
        return try locateFile(name, &request)
    }

    private func locate(_ address: ImageURL, _ request: inout FetchRequest) throws(Failure) -> ImageLocation {
        try address.refuseUnknown()
        if address.scheme == "file" { return try locateFile(address.path, &request) }
        request.source = .url(address)
        return .fetch(request)
    }

    private func locateFile(_ name: String, _ request: inout FetchRequest) throws(Failure) -> ImageLocation {
        // Most images are files, for which no list need be read.
        let catalog = isThere(name) ? nil : try ImageCatalog(files: catalogs)
        if let entry = catalog?.entries[name] {
            guard let address = ImageURL(entry.url) else {
                throw Failure(.usage, "use", entry.file, "the url of \(name) is none")
            }
            if request.checksum == nil {
                (request.checksum, request.keyring) = (entry.checksum?.text, request.keyring ?? entry.keyring)
            }
            return try locate(address, &request)
        }
        let path = try files.find(name, what: "image", others: { catalog?.nearest($0) })
        let (_, head) = try ImageInspection.open(path)
        let isPlain = request.checksum == nil && (head.packer == nil || request.format != nil)
        request.source = .file(path)
        return isPlain ? .disk(path, request.format) : .fetch(request)
    }

    private func isThere(_ name: String) -> Bool { files.places(name).contains { access($0, F_OK) == 0 } }

    private func folderOrFile(_ name: String) throws(Failure) -> String {
        if let path = files.places(name).first(where: Files.isFolder) { return path }
        return try files.find(name, what: "container image")
    }

    /// `@FILE` has one a line: a password has no place on a command line.
    private func headers(_ text: String) throws(Failure) -> [String] {
        guard text.hasPrefix("@") else { return [text] }
        let path = try files.find(String(text.dropFirst()), what: "file of headers", kind: .usage)
        let content = try Failure.naming(.usage, "read", path, try Files.read(path, limit: 1 << 20))
        let lines = String(decoding: content, as: UTF8.self).split(whereSeparator: \.isNewline)
        return lines.map { String($0).trimmed }.filter { !$0.isEmpty }
    }
}
