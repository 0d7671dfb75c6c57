import Values

extension Effect {
    package struct Pipe: FileEffect {
        package var path: String
        package var owner: User?

        package var shellText: String {
            let make = "mkfifo -m 600 \(path.shellQuoted)"
            return owner.map { "\(make) && chown \($0.uid):\($0.gid) \(path.shellQuoted)" } ?? make
        }
    }

    package static func pipe(path: String, owner: User?) -> Effect { .pipe(Pipe(path: path, owner: owner)) }
}
