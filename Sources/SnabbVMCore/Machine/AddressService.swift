import Glibc

/// dnsmasq, as long as the machine runs: started again if it dies.
final class AddressService {
    private let program: Companion
    private let command: Command
    private let loop: EventLoop
    private let ledger: Ledger
    private let log: Log
    private var failures = 0
    private var hasServed = false
    private var isEnding = false
    /// It never came up.
    var onFailure: (Failure) -> Void = { _ in }

    private static let patience = 3
    private static let longestPause = 60

    init(_ command: Command, loop: EventLoop, ledger: Ledger, log: Log) {
        self.command = command
        self.loop = loop
        self.ledger = ledger
        self.log = log
        program = Companion(command, name: "dnsmasq", loop: loop)
        program.onLine = { log.verbose($0) }
        program.onEnd = { [unowned self] in ended($1) }
    }

    func start() throws {
        log.verbose(command.shellText)
        try program.start(recording: ledger)
        let started = program.pid
        // A while later it is no failure of the start any more.
        loop.after(.seconds(5)) { [weak self] in
            guard let self, program.pid == started else { return }
            (failures, hasServed) = (0, true)
        }
    }

    private func ended(_ words: String) {
        if isEnding { return }
        failures += 1
        // A guest that has its address goes on without.
        if failures > AddressService.patience, !hasServed {
            return onFailure(Failure(.network, "serve", "the machine's address", "dnsmasq ended: \(words)"))
        }
        log.warning("dnsmasq ended (\(words)); it is started again")
        loop.after(.seconds(min(1 << min(failures - 1, 10), AddressService.longestPause))) { [weak self] in
            guard let self, !isEnding else { return }
            try start()
        }
    }

    func end() throws {
        isEnding = true
        try program.end()
    }

    /// Each NIC's addresses that were asked for and given: by MAC address; those of IPv6 stand below a line of their own.
    static func leases(of folders: Folders) -> [MACAddress: [IPAddress]] {
        leases(FileTree().text(folders.leases) ?? "")
    }

    static func leases(_ text: String) -> [MACAddress: [IPAddress]] {
        var result: [MACAddress: [IPAddress]] = [:]
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ").map(String.init)
            guard fields.count >= 4, let address = IPAddress(fields[2]), let mac = MACAddress(fields[1]) else {
                continue
            }
            result[mac, default: []].append(address)
        }
        return result
    }
}
