import CLinux
import Glibc
import Model
import System
import Values

extension Effect.NICTaking: Performable {
    package func records(_ folders: MachinePaths) -> [Effect]? { [.take(state)] }
    package func make(_ maker: inout EffectMaker) throws { try state.take(from: driver, over: leftBehind) }
    package func undo() throws(Failure) { try state.giveBack() }
}

extension Effect.NICConfirmation: Performable {
    /// Unbinding holds back all who asked for it, and lets them go together: their marks follow within the millisecond.
    private static let timeToMark: Int32 = 300

    /// Of several marks the last one stands. Who comes later than this sees it before it takes anything.
    package func make(_ maker: inout EffectMaker) throws {
        poll(nil, 0, Self.timeToMark)
        for state in states where state.currentMark != state.mark { throw state.lost }
    }
}

extension Effect.IOMMUType: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        try Failure.naming(
            .host, "set IOMMU group \(group) of NIC \(address) to", type,
            try Files.set("/sys/kernel/iommu_groups/\(group)/type", type)
        ) { _ in "add iommu=pt to the kernel's command line" }
    }
}

extension Effect.NICBinding: Performable {
    /// The driver need not claim the id of our NIC.
    package func make(_ maker: inout EffectMaker) throws {
        let nic = NICState(address: address, mark: mark)
        try nic.mark(with: driver)
        try nic.perform("/sys/bus/pci/drivers/\(driver)/bind", "\(address)")
        guard nic.driver == driver else {
            throw Failure(.port, "give NIC \(address) to", driver, "the driver does not take it")
        }
        // From now on it says again whose it is.
        try nic.mark(with: mark.text)
    }
}

/// Taking a NIC from the kernel, and giving it back as it was: by the ledger, or by the mark that it bears.
extension NICState {
    // MARK: - Taking

    /// A launcher in another container has locks that are not seen here, and the kernel may let two unbind a NIC that ask
    /// at the same time. So whose it is shows by its mark, a moment after all who wanted it have written theirs: see
    /// `NICConfirmation`. `leftBehind` is the mark that is known to be a dead machine's.
    func take(from driver: String?, over leftBehind: NICMark?) throws(Failure) {
        if let now = currentMark, now != leftBehind { throw lost }
        if let driver {
            do throws(Failure) { try perform("/sys/bus/pci/drivers/\(driver)/unbind", "\(address)") } catch {
                // Not ours, so not ours to give back: which undoing knows by the other's mark.
                if error.kind == .busy { awaitOthersMark() }
                throw error
            }
        } else {
            // Whoever had it was killed: it may be writing into memory that others have by now.
            try stopDMA()
        }
        try mark(with: mark.text)
        try stopDMA()
    }

    private var isOthers: Bool {
        guard let other = currentMark else { return false }
        return other.machine != mark.machine || other.host != mark.host
    }

    fileprivate var lost: Failure {
        Failure(.busy, "take NIC", "\(address)", "another program took it in this moment")
    }

    private func awaitOthersMark() {
        let end = ContinuousClock.now + .seconds(1)
        while currentMark == nil, driver == nil, ContinuousClock.now < end { usleep(1000) }
    }

    fileprivate func perform(_ path: String, _ value: String) throws(Failure) {
        do throws(Errno) { try Files.set(path, value) } catch {
            if error == .noDevice { throw lost }
            throw Failure(
                .port, "take NIC \(address) by", path, error,
                remedy: error.isRefusal ? "in a container: docker run --privileged, or -v /sys:/sys" : nil)
        }
    }

    // MARK: - What it is now

    private var tree: FileTree { FileTree() }
    fileprivate var driver: String? { tree.linkName("\(folder)/driver") }
    fileprivate var currentMark: NICMark? { NICMark.of(folder) }
    private var currentInterfaces: [String] { HostFacts.NIC.interfaces(of: folder, tree) }

    fileprivate func mark(with text: String) throws(Failure) { try perform("\(folder)/driver_override", text) }

    private func stopDMA() throws(Failure) {
        try Failure.naming(
            .port, "switch off the bus mastering of NIC", "\(address)",
            try PCIConfiguration(folder, writable: true).clearBusMaster())
    }

    // MARK: - Giving back

    /// Done again, or for a NIC that was never taken, it does nothing; nor to a NIC that somebody else has by now.
    package func giveBack() throws(Failure) {
        guard tree.exists(folder) else { return }
        if isOurs {
            do throws(Errno) {
                if let driver { try Files.set("/sys/bus/pci/drivers/\(driver)/unbind", "\(address)") }
                try PCIConfiguration(folder, writable: true).clearBusMaster()
                try restoreIOMMU()
                try Files.set("\(folder)/driver_override", override ?? "")
            } catch {
                let retry = "try again: snabbvm release \(address)"
                throw Failure(.cleanup, "give back NIC", "\(address)", error, remedy: retry)
            }
            try bindAgain()
        }
        try restoreInterfaces()
    }

    /// By its mark; or, where a crash came before the mark or in its absence, because it has no driver, or the one that
    /// only we gave it.
    private var isOurs: Bool {
        let now = tree.line("\(folder)/driver_override") ?? ""
        if NICMark(now) != nil { return !isOthers }
        if let binds, now == binds, override != binds { return driver == nil || driver == binds }
        return driver == nil && mark.driver != nil
    }

    private func restoreIOMMU() throws(Errno) {
        let path = "\(folder)/iommu_group/type"
        guard let type = mark.iommuType, let now = tree.line(path), now != type else { return }
        try Files.set(path, type)
    }

    private func bindAgain() throws(Failure) {
        guard let wanted = mark.driver else { return }
        var problem: Errno?
        do throws(Errno) { try Files.set("/sys/bus/pci/drivers/\(wanted)/bind", "\(address)") } catch {
            problem = error
        }
        if driver == nil { try? Files.set("/sys/bus/pci/drivers_probe", "\(address)") }
        if driver != nil { return }
        // It still says how it was, for another try.
        try? Files.set("\(folder)/driver_override", mark.text)
        let cause = tree.exists("/sys/bus/pci/drivers/\(wanted)") ? problem?.description : "the driver is not loaded"
        throw Failure(
            .cleanup, "give NIC \(address) back to", wanted, cause ?? "the driver does not take it",
            remedy: "load the driver (modprobe \(wanted)), then snabbvm release \(address)")
    }

    /// For a NIC that nobody knows the driver of.
    package func probe() throws(Failure) { try perform("/sys/bus/pci/drivers_probe", "\(address)") }

    /// udev gives a new interface its name, where there is udev; else we do.
    private static let patienceForNames = Duration.milliseconds(1500)
    private static let patience = Duration.seconds(5)

    private func restoreInterfaces() throws(Failure) {
        guard !mark.interfaces.isEmpty, driver == mark.driver else { return }
        let names = mark.interfaces.map(\.name)
        let events = InterfaceEvents()
        events.wait(NICState.patience) { currentInterfaces.count >= names.count }
        if currentInterfaces.count < names.count {
            throw Failure(
                .cleanup, "see interface", names.joined(separator: ", "), "NIC \(address) has not brought it back here",
                remedy: "look with: ip link; it may have gone to another network namespace")
        }
        events.wait(NICState.patienceForNames) { Set(names).isSubset(of: currentInterfaces) }
        let present = currentInterfaces
        let strangers = present.filter { !names.contains($0) }
        let missing = names.filter { !present.contains($0) }
        do throws(Errno) {
            for (stranger, name) in zip(strangers, missing) {
                try Errno.check { clinux_interface_rename(stranger, name) }
            }
            for interface in mark.interfaces where interface.isUp {
                try Errno.check { clinux_interface_set_up(interface.name, 1) }
            }
        } catch {
            throw Failure(.cleanup, "put back interface", names.joined(separator: ", "), error)
        }
    }
}

/// The kernel's news of interfaces that come, go and change their names.
private struct InterfaceEvents: ~Copyable {
    /// Without it nothing is waited for.
    private let socket = Descriptor(clinux_interface_events())

    /// Waits until it is so, looking at each piece of news.
    func wait(_ limit: Duration, until done: () -> Bool) {
        let end = ContinuousClock.now + limit
        while !done(), socket.raw >= 0 {
            if end.untilThen == 0 { return }
            var polled = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
            if poll(&polled, 1, end.untilThen) > 0 { _ = try? socket.read(atMost: 65536) }
        }
    }
}
