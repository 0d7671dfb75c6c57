/// Every path of one machine.
struct MachinePaths: Codable, Equatable {
    /// Where all machines of this host are.
    var base: String
    /// The machine's disk and firmware variables: kept with --state, else given back.
    var disks: String
    var disksAreKept: Bool
    /// Where the disks of all machines are that are not kept.
    var scratch: String?
    /// Where fetched images are kept for all machines.
    var images: String
    var name: String

    /// `arguments` with full paths only; `runtimeFolder` is what XDG_RUNTIME_DIR says.
    init(absolute arguments: Arguments, uid: UInt32, runtimeFolder: String?) {
        name = arguments.name
        let own = runtimeFolder.map { "\($0)/snabbvm" } ?? "/tmp/snabbvm-\(uid)"
        base = arguments.runFolder ?? (uid == 0 ? "/run/snabbvm" : own)
        let place = arguments.scratch ?? (uid == 0 ? "/var/lib/snabbvm" : "/var/tmp/snabbvm-\(uid)")
        // A kept disk is worth nothing without the image that it stands on.
        images = arguments.cache ?? "\(arguments.state ?? place)/images"
        if let state = arguments.state {
            disks = state
            disksAreKept = true
        } else {
            scratch = place
            disks = "\(place)/\(name)"
            disksAreKept = false
        }
    }

    /// The lock and the ledger are one file: whoever holds its lock is the machine's launcher.
    var ledger: String { "\(base)/\(name).ledger" }
    var run: String { "\(base)/\(name)" }
    var control: String { "\(run)/control" }
    var log: String { "\(run)/log" }
    var tmuxSocket: String { "\(run)/tmux" }
    /// tmux takes a dot for something else; its server is this machine's alone, so no two names can meet.
    var tmuxSession: String { String(name.map { $0 == "." ? "_" : $0 }) }
    var dnsmasqSettings: String { "\(run)/dnsmasq.conf" }
    /// Which of its addresses the machine has taken.
    var leases: String { "\(run)/leases" }
    /// Whom `snabbvm ssh` has met there.
    var knownHosts: String { "\(run)/known_hosts" }
    /// Where QEMU finds passt, in a folder of their own.
    var passtFolder: String { "\(run)/passt" }
    var passt: String { "\(passtFolder)/socket" }
    var tmuxSettings: String { "\(run)/tmux.conf" }
    var seedFiles: String { "\(run)/seed" }
    var seed: String { "\(run)/seed.iso" }
    /// Where a machine reads an image that is still coming.
    var servedImage: String { "\(run)/image" }
    /// A passphrase, for QEMU's user alone.
    var secret: String { "\(run)/secret" }
    /// A pair of pipes NAME.in and NAME.out, as QEMU's `pipe` back end wants them.
    func pipe(_ name: String) -> String { "\(run)/\(name)" }

    /// Each port's socket: QEMU makes them.
    var ports: String { "\(run)/ports" }
    /// Each switch's settings, which are not for QEMU to write.
    var switches: String { "\(run)/switches" }
    /// Where Snabb has its counters.
    var snabb: String { "\(run)/snabb" }
    /// Where Snabb has its own hugepages, whatever it is told.
    static let snabbHugepages = "/var/run/snabb/hugetlbfs"

    var disk: String { "\(disks)/disk.img" }
    var firmwareVariables: String { "\(disks)/firmware-variables.fd" }
    /// Everything that can be in the folder of disks that are not kept.
    var diskFiles: [String] { [disk, firmwareVariables].flatMap { [$0, Effect.unfinished($0)] } }
    var record: String { "\(disks)/machine.json" }

    /// A socket's path has a place for 107 bytes in the kernel.
    static let longestSocketPath = 107
}
