extension Effect {
    struct Pipe: FileEffect {
        var path: String
        var owner: User?

        var shellText: String {
            let make = "mkfifo -m 600 \(path.shellQuoted)"
            return owner.map { "\(make) && chown \($0.uid):\($0.gid) \(path.shellQuoted)" } ?? make
        }
    }

    static func pipe(path: String, owner: User?) -> Effect { .pipe(Pipe(path: path, owner: owner)) }
}
