import CLinux
import Glibc
import Host
import Images
import Model
import Planning
import System
import Values

/// The commands about the cache of images.
enum ImagesCommand {
    static func perform(_ arguments: Arguments, _ log: Log) throws -> Int32 {
        let cache = ImageCache(folder: MachinePaths(arguments).images)
        switch arguments.imagesVerb {
        case .ls: return try list(arguments, cache)
        case .pull: return try pull(arguments, log)
        case .rm: return try remove(arguments, cache, log)
        case .verify: return try verify(arguments, cache, log)
        }
    }

    private static func list(_ arguments: Arguments, _ cache: ImageCache) throws -> Int32 {
        let (entries, partials) = (cache.entries, cache.partials)
        if arguments.json {
            let images: [JSON] = try entries.map {
                try ["name": .string($0.stem), "path": .string($0.path), "image": JSON(encoding: $0.record)]
            }
            let parts: [JSON] = try partials.map {
                try [
                    "name": .string($0.stem), "source": .string($0.record.source),
                    "done": JSON(encoding: $0.record.present.count),
                    "total": JSON(encoding: $0.record.validators.length),
                ]
            }
            let list: JSON = ["cache": .string(cache.folder), "images": .array(images), "partial": .array(parts)]
            print(list.prettyText)
            return 0
        }
        if entries.isEmpty, partials.isEmpty {
            print("no images are kept in \(cache.folder)")
            return 0
        }
        let rows = entries.map { entry in
            let image = entry.record.image
            let onDisk = (try? Files.status(entry.path)).map { "\(ByteCount(UInt64($0.st_blocks) * 512))" } ?? "-"
            let age = Elapsed.age(since: entry.record.fetched, now: Files.timeNow)
            return [entry.stem, image.format.rawValue, "\(image.virtualSize)", onDisk, age, entry.record.source]
        }
        let unfinished = partials.map { partial in
            let (done, total) = (partial.record.present.count, partial.record.validators.length)
            let share = total.map { $0 == 0 ? "" : " of \(ByteCount($0))" } ?? ""
            return [partial.stem, "part", "\(ByteCount(done))\(share)", "-", "-", partial.record.source]
        }
        print(Table.text(["NAME", "FORMAT", "SIZE", "ON DISK", "FETCHED", "FROM"], rows + unfinished, right: 2..<4))
        return 0
    }

    private static func pull(_ arguments: Arguments, _ log: Log) throws -> Int32 {
        let facts = try HostFacts.read(for: arguments)
        let finder = Preparation.imageFinder(arguments)
        for name in arguments.images {
            let path: String
            switch try finder.locate(name, arguments, facts) {
            case .disk(let file, _): path = file
            case .fetch(let request):
                let loop = try EventLoop()
                let fetch = try ImageFetch(request, loop: loop, log: log)
                path = try fetch.wait().path
                try fetch.waitForEnd()
            }
            print(path)
            fflush(nil)
        }
        return 0
    }

    /// The image of this name, which may be cut short as long as it fits one image alone.
    private static func named<Item>(_ name: String, _ items: [Item], _ stem: (Item) -> String) throws(Failure) -> Item?
    {
        if let exact = items.first(where: { stem($0) == name }) { return exact }
        let fitting = items.filter { !name.isEmpty && stem($0).hasPrefix(name) }
        if fitting.count < 2 { return fitting.first }
        throw Failure(
            .usage, "choose image", name, "it could be \(fitting.map(stem).joined(separator: " or "))",
            remedy: "give more of the name")
    }

    private static func remove(_ arguments: Arguments, _ cache: ImageCache, _ log: Log) throws -> Int32 {
        if arguments.all {
            var failures: [Failure] = []
            for entry in cache.entries {
                do throws(Failure) { try remove(entry, cache, arguments) } catch { failures.append(error) }
            }
            for partial in cache.partials {
                do throws(Failure) { try cache.remove(partial) } catch { failures.append(error) }
            }
            try cache.removeStrays()
            for failure in failures { log.failure(failure) }
            return failures.first?.kind.rawValue ?? 0
        }
        for name in arguments.images {
            // A part of just that name is meant rather than what begins with it.
            let part = cache.partials.first { $0.stem == name }
            if part == nil, let entry = try named(name, cache.entries, \.stem) {
                try remove(entry, cache, arguments)
                log.note("removed \(entry.stem)")
            } else if let partial = try part ?? named(name, cache.partials, \.stem) {
                try cache.remove(partial)
                log.note("removed what was there of \(partial.stem)")
            } else {
                throw unknown(name, cache)
            }
        }
        return 0
    }

    /// Without it a kept disk that stands on it is worth nothing, and its server may have another by now.
    private static func remove(
        _ entry: ImageCache.Entry, _ cache: ImageCache, _ arguments: Arguments
    ) throws(Failure) {
        let folders = ImageCache.keepers(of: entry.path).filter { folder in
            guard let text = FileTree().text("\(folder)/machine.json"),
                let record = try? JSON(parsing: text).decode(MachineRecord.self)
            else { return false }
            return record.image.map { entry.image.difference(from: $0) == nil } ?? false
        }
        if !folders.isEmpty, !arguments.force {
            let disks = folders.count == 1 ? "the disk kept in" : "disks kept in"
            throw Failure(
                .busy, "remove image", entry.stem, "\(disks) \(folders.joined(separator: ", ")) can't do without it",
                remedy: "free that with snabbvm disk flatten --state DIR, or give --force")
        }
        try cache.remove(entry)
    }

    private static func unknown(_ name: String, _ cache: ImageCache) -> Failure {
        Failure(.usage, "find image", name, "it is not in \(cache.folder)", remedy: "see snabbvm images")
    }

    /// Reads each image, and compares it with what was fetched.
    private static func verify(_ arguments: Arguments, _ cache: ImageCache, _ log: Log) throws -> Int32 {
        let all = cache.entries
        let chosen = try arguments.images.map { name in
            guard let entry = try named(name, all, \.stem) else { throw unknown(name, cache) }
            return entry
        }
        var results: [JSON] = []
        var code: Int32 = 0
        for entry in chosen.isEmpty ? all : chosen {
            let failure = try problem(of: entry)
            code = failure?.kind.rawValue ?? code
            if arguments.json {
                let message = try JSON(encoding: failure?.line)
                results.append(["name": .string(entry.stem), "right": .bool(failure == nil), "message": message])
            } else if let failure {
                log.failure(failure)
            } else {
                print("\(entry.stem): right")
            }
        }
        if arguments.json { print(JSON.array(results).prettyText) }
        return code
    }

    private static func problem(of entry: ImageCache.Entry) throws -> Failure? {
        guard let wanted = entry.record.diskDigest else {
            return Failure(
                .checksum, "verify", entry.stem,
                "no digest of it is known: its fetch was cut short, or 0.1.0 unpacked it",
                remedy: "remove it, and fetch it again")
        }
        let found = try Digest(of: entry.path, wanted.algorithm)
        if found == wanted { return nil }
        return Failure(
            .checksum, "verify", entry.stem,
            "its \(wanted.algorithm.rawValue) is \(found.hex), and was \(wanted.hex) when it was fetched",
            remedy: "remove it with snabbvm images rm, and fetch it again")
    }
}
