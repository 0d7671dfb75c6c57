extension Effect {
    /// A copy of a file that only this user may read.
    struct Secret: FileEffect {
        var path: String
        var source: String
        var owner: User?

        var shellText: String {
            let user = owner.map { " -o \($0.uid) -g \($0.gid)" } ?? ""
            return "install -m 400\(user) \(source.shellQuoted) \(path.shellQuoted)"
        }
    }

    static func secret(path: String, source: String, owner: User?) -> Effect {
        .secret(Secret(path: path, source: source, owner: owner))
    }
}
