import Values

extension Effect {
    /// A copy of a file that only this user may read.
    package struct Secret: FileEffect {
        package var path: String
        package var source: String
        package var owner: User?

        package var shellText: String {
            let user = owner.map { " -o \($0.uid) -g \($0.gid)" } ?? ""
            return "install -m 400\(user) \(source.shellQuoted) \(path.shellQuoted)"
        }
    }

    package static func secret(path: String, source: String, owner: User?) -> Effect {
        .secret(Secret(path: path, source: source, owner: owner))
    }
}
