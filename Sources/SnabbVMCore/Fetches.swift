import Glibc
import Host
import Images
import Model
import Planning
import System
import Values

/// Brings the images that a machine needs and that are not here.
struct Fetches {
    let arguments: Arguments
    let facts: HostFacts
    let wishes: Wishes
    let loop: EventLoop
    let log: Log

    /// What was found, with the image and the CD as they are here by now; and the fetch that is still at work, for a
    /// machine that boots before its image is all here.
    func bring(
        _ image: FetchRequest?, _ cdrom: FetchRequest?, _ found: Findings, _ ledger: Ledger?
    ) throws -> (findings: Findings, fetch: ImageFetch?) {
        var brought = found
        if image == nil, cdrom == nil { return (brought, nil) }
        // Whatever is refused is refused before gigabytes have come.
        try refuseEarly(found, isImage: image != nil)
        guard let ledger else {
            if let cdrom { brought.cdrom = expected(cdrom, &brought.seed.warnings) }
            if let image { brought.image = expected(image, &brought.seed.warnings) }
            return (brought, nil)
        }
        if let cdrom { brought.cdrom = try ImageFetch(cdrom, loop: loop, log: log).wait() }
        guard var image else { return (brought, nil) }
        if let record = found.record, record.isOverlay { image.keptVersion = record.image?.version }
        if arguments.lazy { try makeLazy(&image, found.folders, ledger) }
        let fetch = try ImageFetch(image, loop: loop, log: log)
        brought.image = try fetch.wait()
        return (brought, brought.image?.served == nil ? nil : fetch)
    }

    private func refuseEarly(_ found: Findings, isImage: Bool) throws(Failure) {
        if isImage, found.hasKeptDisk { return }
        var guess = found
        if isImage { guess.image = standIn("") }
        if guess.secretFile != nil { guess.image?.encryption = "luks" }
        _ = try MachinePlanner.plan(arguments, facts, wishes, guess)
    }

    /// For a plan that is only looked at.
    private func standIn(_ path: String) -> DiskImage {
        var image = DiskImage.placeholder
        (image.path, image.format) = (path, arguments.format ?? .qcow2)
        return image
    }

    private func expected(_ request: FetchRequest, _ warnings: inout [String]) -> DiskImage {
        let cache = ImageCache(folder: request.cache)
        if let known = cache.entries.last(where: { $0.record.source == request.shown }) { return known.record.image }
        warnings.append("\(request.shown) would be fetched first, and looked at then: what follows is a guess")
        return standIn("\(cache.folder)/IMAGE\(ImageCache.diskSuffix)")
    }

    private func makeLazy(_ image: inout FetchRequest, _ folders: MachinePaths, _ ledger: Ledger) throws(Failure) {
        guard case .url = image.source else { return }
        if arguments.copy {
            return log.note("--copy needs all of the image, so it is fetched before the machine boots")
        }
        image.lazySocket = folders.servedImage
        image.lazyOwner = facts.privileges.qemuUser
        try MachinePaths.checkSocketPath(folders.servedImage)
        // The plan makes the same folder, and comes too late for this.
        try ledger.record(
            Files.missingFolders(folders.base).map { .folder(path: $0, isShared: true) } + [
                .folder(path: folders.run, isShared: false), .file(path: folders.servedImage),
            ])
        try Failure.naming(.host, "make", folders.run, try Files.makeFolders(folders.run, mode: 0o711))
    }

    /// Nobody is to remove the image while a machine has it.
    func hold(_ images: DiskImage?...) throws(Failure) -> [HeldDescriptor] {
        let here = images.compactMap(\.self).filter { $0.served == nil && ImageCache.entry(at: $0.path) != nil }
        return try here.map(\.path).map(ImageCache.hold)
    }
}
