import Values

extension Effect {
    /// A device file, by its numbers `major:minor`, for who opens it for the machine.
    package struct Device: FileEffect {
        package var path: String
        package var numbers: String

        package var shellText: String {
            "mknod -m 600 \(path.shellQuoted) c \(numbers.split(separator: ":").joined(separator: " "))"
        }
    }

    package static func device(path: String, numbers: String) -> Effect {
        .device(Device(path: path, numbers: numbers))
    }
}
