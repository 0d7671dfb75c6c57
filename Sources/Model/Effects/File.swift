import Values

extension Effect {
    /// A file of ours at a path where nothing was.
    package struct File: FileEffect {
        package var path: String
        package var mode: UInt16?
        /// None where nothing is to be done, but somebody will make something of ours there.
        package var content: FileContent?

        package var shellText: String {
            guard let content, let mode else { return "# \(path.shellQuoted) comes with its program" }
            if let source = content.source {
                return "install -m \(String(mode, radix: 8)) \(source.shellQuoted) \(path.shellQuoted)"
            }
            if content.isPrivate {
                return
                    ": > \(path.shellQuoted)  # \(content.bytes.count) bytes made from your meta-data, not shown here"
            }
            let mask = String(~mode & 0o777, radix: 8)
            let text = String(decoding: content.bytes, as: UTF8.self)
            return "(umask \(mask); printf %s \(text.shellQuoted) > \(path.shellQuoted))"
        }
    }

    package static func file(path: String, mode: UInt16, _ content: FileContent) -> Effect {
        .file(File(path: path, mode: mode, content: content))
    }

    package static func file(path: String) -> Effect { .file(File(path: path)) }
}
