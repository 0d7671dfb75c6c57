extension Effect {
    /// A device file, by its numbers `major:minor`, for who opens it for the machine.
    struct Device: FileEffect {
        var path: String
        var numbers: String

        var shellText: String {
            "mknod -m 600 \(path.shellQuoted) c \(numbers.split(separator: ":").joined(separator: " "))"
        }
    }

    static func device(path: String, numbers: String) -> Effect { .device(Device(path: path, numbers: numbers)) }
}
