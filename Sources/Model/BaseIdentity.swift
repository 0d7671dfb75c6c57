/// What tells a state of a block device from others: within a boot how much was written to it, by whatever name; from one
/// boot to the next, samples of its content.
package struct DeviceStamp: Codable, Equatable {
    var boot: String
    /// Sectors, as the kernel counts them.
    var written: UInt64
    var samples: String

    package init(boot: String, written: UInt64, samples: String) {
        self.boot = boot
        self.written = written
        self.samples = samples
    }
}

/// What an image is that a disk stands on: where it comes from, which member of an archive, and what is in it. The cache,
/// a kept disk and its machine.json all go by this.
extension DiskImage {
    /// Why this is not the image that there was before, in words to follow its name; nil where it is. Fetched once more,
    /// to whatever place, it is the same one; overwritten, it is another.
    package func difference(from before: DiskImage) -> String? {
        if format != before.format {
            return "is taken for \(format.rawValue), and was taken for \(before.format.rawValue)"
        }
        // The best witnesses first. An older version did not note the member.
        let isSameFile = agree(digest, before.digest)
        let isSameMember =
            member == before.member || [member, before.member].contains(nil) && fileSize == before.fileSize
        if isSameFile == true, isSameMember { return nil }
        if let isSame = agree(content, before.content) { return isSame ? nil : "has another content" }
        if let member, let was = before.member, member != was { return "is \(member), and \(was) was meant" }
        if let isSameFile { return isSameFile ? "is another file of the same archive" : "is another file by now" }
        if source != nil, source == before.source, let version, let was = before.version {
            return version == was ? nil : "was changed on its server"
        }
        if let device, let was = before.device { return device.difference(from: was) }
        return fileSize == before.fileSize && modified == before.modified ? nil : "was changed"
    }

    /// nil where they can't be compared.
    private func agree(_ one: String?, _ other: String?) -> Bool? {
        guard let one, let other, one.prefix(while: { $0 != ":" }) == other.prefix(while: { $0 != ":" }) else {
            return nil
        }
        return one == other
    }

    /// With what was known of it earlier, or is known elsewhere, and can't be seen in the file.
    package func knowing(_ other: DiskImage) -> DiskImage {
        var image = self
        image.source = source ?? other.source
        image.digest = digest ?? other.digest
        image.content = content ?? other.content
        image.member = member ?? other.member
        image.version = version ?? other.version
        return image
    }
}

extension DeviceStamp {
    fileprivate func difference(from before: DeviceStamp) -> String? {
        let isSame = boot == before.boot ? written == before.written : samples == before.samples
        return isSame ? nil : "was written to"
    }
}

extension String {
    /// Whether a file of an archive is meant by this name: the whole of its own, or the last part.
    package func means(member: String) -> Bool {
        let plain = { (name: String) in
            String(name.hasPrefix("./") ? name.dropFirst(2) : name.hasPrefix("/") ? name.dropFirst() : name[...])
        }
        return plain(self) == plain(member) || member.split(separator: "/").last.map(String.init) == self
    }
}
