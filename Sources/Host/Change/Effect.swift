import CLinux
import Glibc
import Model
import System
import Values

package protocol Performable: EffectValue {
    /// What is written to the ledger before anything is made, by what is there; nil for this effect itself.
    func records(_ folders: MachinePaths) -> [Effect]?
    /// Makes it. What a program makes is only begun here, so that several go on side by side.
    func make(_ maker: inout EffectMaker) throws
    /// Puts the host back. Done again, or for an effect that never came about, it does nothing.
    func undo() throws(Failure)
}

extension Effect {
    /// A line for each, so that one without an undoing does not compile.
    var performable: any Performable {
        switch self {
        case .folder(let value): value
        case .file(let value): value
        case .secret(let value): value
        case .seed(let value): value
        case .disk(let value): value
        case .run(let value): value
        case .remount(let value): value
        case .mount(let value): value
        case .nic(let value): value
        case .confirm(let value): value
        case .iommuType(let value): value
        case .bind(let value): value
        case .interfaceUp(let value): value
        case .tap(let value): value
        case .device(let value): value
        case .links(let value): value
        case .tables(let value): value
        case .setting(let value): value
        case .switchFiles(let value): value
        case .process(let value): value
        case .hugepageAdded(let value): value
        case .xdp(let value): value
        case .bridged(let value): value
        }
    }

    package func undo() throws(Failure) { try performable.undo() }
}

/// Makes the planned effects, each in the ledger before it is made, the programs side by side.
package struct EffectMaker {
    let ledger: Ledger
    let loop: EventLoop
    let folders: MachinePaths
    /// Waits until a program has made what it is at.
    var begun: [() throws -> Void] = []

    package static func make(
        _ effects: [Effect], ledger: Ledger, loop: EventLoop, folders: MachinePaths, log: Log
    ) throws {
        try ledger.record(effects.flatMap { $0.performable.records(folders) ?? [$0] })
        var maker = EffectMaker(ledger: ledger, loop: loop, folders: folders)
        for effect in effects {
            log.verbose(effect.summary)
            try effect.performable.make(&maker)
        }
        for finish in maker.begun { try finish() }
    }
}

extension Performable where Self: FileEffect {
    package func records(_ folders: MachinePaths) -> [Effect]? { folders.keeps(path) ? [] : [.file(path: path)] }
    package func undo() throws(Failure) { try giveBack("remove", path, unless: [.notFound]) { unlink(path) } }
}

extension Performable where Self: UnplannedEffect {
    package func records(_ folders: MachinePaths) -> [Effect]? { [] }
    package func make(_ maker: inout EffectMaker) {}
}

/// An effect that needs no undoing of its own.
extension Performable where Self: PassingEffect {
    package func records(_ folders: MachinePaths) -> [Effect]? { [] }
    package func undo() {}
}

extension Performable {
    package func records(_ folders: MachinePaths) -> [Effect]? { nil }

    func attempt(_ operation: String, _ subject: String, _ body: () throws(Errno) -> Void) throws(Failure) {
        do throws(Errno) { try body() } catch {
            throw Failure(.host, operation, subject, error, remedy: error.otherPlaces)
        }
    }

    /// What is gone already needs no undoing.
    func giveBack(
        _ operation: String, _ subject: String, unless gone: [Errno], _ body: () -> Int32
    ) throws(Failure) {
        do throws(Errno) { try Errno.check(body) } catch {
            if !gone.contains(error) { throw Failure(.cleanup, operation, subject, error) }
        }
    }

    /// A container that was started again has another network, and the old one is gone with all that was in it. One that
    /// is still there can only be put back in it.
    func isHere(_ namespace: UInt64?, _ name: String) throws(Failure) -> Bool {
        guard let namespace, namespace != HostFacts.Network.currentNamespace else { return true }
        let named = ["/run/netns", "/run/docker/netns"].flatMap { folder in
            Files.names(folder).map { "\(folder)/\($0)" }
        }
        let processes = Files.names("/proc").filter { UInt32($0) != nil }.map { "/proc/\($0)/ns/net" }
        let place = (named + processes).first { (try? Files.status($0)).map { UInt64($0.st_ino) } == namespace }
        guard let place else { return false }
        throw Failure(
            .cleanup, "give back", name, "it is in another network namespace",
            remedy: "nsenter --net=\(place) snabbvm release")
    }
}

extension Files {
    static func give(_ path: String, to owner: User?) throws(Errno) {
        if let owner { try Errno.check { chown(path, owner.uid, owner.gid) } }
    }
}
