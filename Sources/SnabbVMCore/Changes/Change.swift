/// A change to the host, with what it takes to undo it. Written to the ledger before it is made.
enum Change: Codable, Equatable {
    /// Something of ours at a path where nothing was.
    case file(path: String)
    /// A folder where none was. It goes only when it is empty: what others put there is theirs.
    case folder(path: String, isShared: Bool)
    /// A process of ours. It can only be named once it runs; until then it is bound to the launcher's life.
    case process(name: String, ProcessIdentity)
    /// A NIC taken from the kernel, as it was before.
    case nic(NICState)
    /// Mounted for writing, where it was for reading.
    case remount(path: String)
    /// A mount of ours, which other machines may use as well.
    case mount(path: String)
    /// A hugepage of the default size that the host did not have before.
    case hugepageAdded
    case interfaceUp(name: String)
    /// A program in the interface's receive path, which stays there when who put it there is gone.
    case xdp(interface: String)
    case tap(name: String, isMultiQueue: Bool, namespace: UInt64)
    /// An interface that is in a bridge of ours, to which its addresses and routes went.
    case bridged(InterfaceState, by: String, namespace: UInt64)
    /// Tables of nftables.
    case tables(name: String, families: [String], namespace: UInt64)
    /// A setting of the kernel, as it was before and as we made it, in this network namespace.
    case setting(path: String, before: String, value: String, namespace: UInt64)
    /// What killed switches leave: their counters, and hugepages that nobody else would give back.
    case switchFiles(path: String)
}
