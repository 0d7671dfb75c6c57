import Values

/// Every path of one machine.
package struct MachinePaths: Codable, Equatable {
    /// Where all machines of this host are.
    package var base: String
    /// The machine's disk and firmware variables: kept with --state, else given back.
    package var disks: String
    package var disksAreKept: Bool
    /// Where the disks of all machines are that are not kept.
    package var scratch: String?
    /// Where fetched images are kept for all machines.
    package var images: String
    package var name: String

    /// `arguments` with full paths only; `runtimeFolder` is one of the user's own.
    package init(absolute arguments: Arguments, uid: UInt32, runtimeFolder: String) {
        name = arguments.name
        base = arguments.runFolder ?? (uid == 0 ? "/run/snabbvm" : "\(runtimeFolder)/snabbvm")
        let place = arguments.scratch ?? (uid == 0 ? "/var/lib/snabbvm" : "/var/tmp/snabbvm-\(uid)")
        // A kept disk is worth nothing without the image that it stands on.
        images = arguments.cache ?? "\(arguments.state ?? place)/images"
        disks = arguments.state ?? "\(place)/\(name)"
        disksAreKept = arguments.state != nil
        scratch = disksAreKept ? nil : place
    }

    /// The lock and the ledger are one file: whoever holds its lock is the machine's launcher.
    package var ledger: String { "\(base)/\(name).ledger" }
    package var run: String { "\(base)/\(name)" }
    package var control: String { "\(run)/control" }
    package var log: String { "\(run)/log" }
    package var tmuxSocket: String { "\(run)/tmux" }
    /// tmux takes a dot for something else; its server is this machine's alone, so no two names can meet.
    package var tmuxSession: String { String(name.map { $0 == "." ? "_" : $0 }) }
    /// How tmux is told to show the windows on the terminal where it runs.
    package var tmuxAttachment: [String] { ["-u", "-N", "-S", tmuxSocket, "attach-session", "-t", "=\(tmuxSession)"] }
    package var dnsmasqSettings: String { "\(run)/dnsmasq.conf" }
    /// Which of its addresses the machine has taken.
    package var leases: String { "\(run)/leases" }
    /// Whom `snabbvm ssh` has met there.
    package var knownHosts: String { "\(run)/known_hosts" }
    /// Where QEMU finds passt, in a folder of their own.
    package var passtFolder: String { "\(run)/passt" }
    package var passt: String { "\(passtFolder)/socket" }
    package var tmuxSettings: String { "\(run)/tmux.conf" }
    package var seedFiles: String { "\(run)/seed" }
    package var seed: String { "\(run)/seed.iso" }
    /// Where a machine reads an image that is still coming.
    package var servedImage: String { "\(run)/image" }
    /// A passphrase, for QEMU's user alone.
    package var secret: String { "\(run)/secret" }
    /// Where QEMU would have the sockets that it is given without a name, were it started by hand.
    package var sockets: String { "\(run)/qemu" }

    /// Each port's socket: QEMU makes them.
    package var ports: String { "\(run)/ports" }
    /// Each switch's settings, which are not for QEMU to write.
    package var switches: String { "\(run)/switches" }
    /// Where Snabb has its counters.
    package var snabb: String { "\(run)/snabb" }
    /// Where Snabb has its own hugepages, whatever it is told.
    package static let snabbHugepages = "/var/run/snabb/hugetlbfs"

    package var disk: String { "\(disks)/disk.img" }
    /// A copy of the disk that is to take its place.
    package var flattened: String { "\(disk).flat" }
    package var firmwareVariables: String { "\(disks)/firmware-variables.fd" }
    /// Below it nothing is taken back.
    package var keptFolder: String? { disksAreKept ? disks : nil }
    package func keeps(_ path: String) -> Bool { keptFolder.map { path.hasPrefix($0 + "/") } ?? false }
    /// Everything that can be in the folder of disks that are not kept.
    package var diskFiles: [String] { [disk, firmwareVariables].flatMap { [$0, Effect.unfinished($0)] } }
    /// Says that what is beside it was made by snabbvm, and is nobody's own.
    package var scratchNote: String { "\(disks)/made-by-snabbvm" }
    package var record: String { "\(disks)/machine.json" }

    /// A socket's path has a place for so many bytes in the kernel.
    private static let longestSocketPath = 107

    package static func checkSocketPath(_ socket: String) throws(Failure) {
        guard socket.utf8.count > longestSocketPath else { return }
        throw Failure(
            .usage, "use", socket, "a socket's path can't be longer than \(longestSocketPath) bytes",
            remedy: "choose a shorter --name or --run-dir")
    }
}
