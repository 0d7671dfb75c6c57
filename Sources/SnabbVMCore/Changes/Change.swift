/// A change to the host, with what it takes to undo it. Written to the ledger before it is made.
enum Change: Codable, Equatable {
    /// Something of ours at a path where nothing was.
    case file(path: String)
    /// A folder where none was. It goes only when it is empty: what others put there is theirs.
    case folder(path: String, isShared: Bool)
    /// A process of ours. It can only be named once it runs; until then it is bound to the launcher's life.
    case process(name: String, ProcessIdentity)
}
