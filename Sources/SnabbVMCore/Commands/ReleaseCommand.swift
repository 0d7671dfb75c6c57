import Host
import Model
import Supervision
import System
import Values

/// `snabbvm release`: gives back what a launcher left that was killed: of one machine, of all, or these NICs.
enum ReleaseCommand {
    static func perform(_ arguments: Arguments, _ log: Log) throws -> Int32 {
        let base = MachinePaths(arguments).base
        try Failure.refuseStrangers(base, option: "--run-dir")
        var failures: [Failure] = []
        if arguments.addresses.isEmpty {
            let names = arguments.all ? ControlClient.machines(in: base) : [try ControlClient(arguments).folders.name]
            for name in names { failures += try releaseMachine(name, in: base, arguments, log) }
        }
        var addresses = arguments.addresses
        if arguments.all { addresses += try leftBehind(besides: addresses, in: base, log) }
        for address in addresses { failures += try releaseNIC(address, in: base, arguments, log) }
        for failure in failures { log.failure(failure) }
        return failures.first?.kind.rawValue ?? 0
    }

    private static func releaseMachine(
        _ name: String, in base: String, _ arguments: Arguments, _ log: Log
    ) throws -> [Failure] {
        let path = "\(base)/\(name).ledger"
        switch Ledger.isHeld(path) {
        case nil:
            log.note("machine \(name) left nothing behind")
            return []
        case true? where arguments.all:
            log.note("machine \(name) is running")
            return []
        default:
            let failures = unwind(try Ledger(path), arguments, log)
            if failures.isEmpty { log.note("gave back what machine \(name) left") }
            return failures
        }
    }

    private static func unwind(_ ledger: Ledger, _ arguments: Arguments, _ log: Log) -> [Failure] {
        for line in arguments.forget ? ledger.unreadable : [] {
            log.warning("forgets, as it stood in \(ledger.path): \(line)")
        }
        return ledger.unwind(forgetting: arguments.forget)
    }

    /// NICs that bear the mark of a machine of this host that no longer runs.
    private static func leftBehind(besides given: [PCIAddress], in base: String, _ log: Log) throws -> [PCIAddress] {
        try HostFacts.NIC.all(FileTree()).compactMap { nic in
            guard let mark = nic.mark, !given.contains(nic.address), !NICLocks.isHeld(nic.address) else { return nil }
            guard mark.host == NICMark.thisHost else {
                log.note("NIC \(nic.address) is \(mark.holder): if that is gone, \(mark.release(nic.address))")
                return nil
            }
            // The NIC's lock is not seen from another network namespace, that of the machine's ledger is.
            return Ledger.isHeld("\(base)/\(mark.machine).ledger") == true ? nil : nic.address
        }
    }

    /// With the ledger of the machine that had it, where that is still there; else by the NIC's own mark.
    private static func releaseNIC(
        _ address: PCIAddress, in base: String, _ arguments: Arguments, _ log: Log
    ) throws -> [Failure] {
        let locks = NICLocks()
        if !locks.take([address]).isEmpty { return [busy(address, "a running machine has it")] }
        for name in ControlClient.machines(in: base) {
            let path = "\(base)/\(name).ledger"
            guard Ledger.names(address, in: path) else { continue }
            if Ledger.isHeld(path) == true { return [busy(address, "machine \(name) is running and has it")] }
            guard let ledger = try? Ledger(path) else { continue }
            let failures = unwind(ledger, arguments, log)
            if failures.isEmpty { log.note("gave back what machine \(name) left, NIC \(address) among it") }
            return failures
        }
        do throws(Failure) { try releaseByMark(address, isForced: arguments.forcePort, log) } catch { return [error] }
        return []
    }

    private static func busy(_ address: PCIAddress, _ cause: String) -> Failure {
        Failure(.busy, "release NIC", "\(address)", cause, remedy: "end that with snabbvm stop")
    }

    private static func releaseByMark(_ address: PCIAddress, isForced: Bool, _ log: Log) throws(Failure) {
        guard let nic = try HostFacts.NIC.all(FileTree(), and: [address]).first(where: { $0.address == address }) else {
            throw Failure(.port, "release", "\(address)", "there is no such PCI device", remedy: "see snabbvm nics")
        }
        if let mark = nic.mark, mark.host != NICMark.thisHost, !isForced {
            // Whether it still runs can't be seen from here.
            throw Failure(
                .busy, "release NIC", "\(address)", "it is \(mark.holder)",
                remedy: "if that is gone: \(mark.release(address))")
        }
        if nic.mark == nil, let driver = nic.driver {
            return log.note("NIC \(address) is with its driver, \(driver)")
        }
        // Without a mark nobody knows its driver; the kernel chooses by its id.
        let unknown = NICMark(machine: "", host: "", driver: nil, interfaces: [], iommuType: nil)
        try NICState(address: address, mark: nic.mark ?? unknown).giveBack()
        if nic.mark == nil { try NICState(address: address, mark: unknown).probe() }
        let now = FileTree().linkName("\(nic.folder)/driver")
        log.note("NIC \(address) is back" + (now.map { " with \($0)" } ?? ", without a driver"))
    }
}
