extension HostFacts.Privileges {
    package struct Capability: Equatable, Sendable {
        package var name: String
        var bit: UInt64

        package static let chown = Capability(name: "CHOWN", bit: 0)
        package static let dacOverride = Capability(name: "DAC_OVERRIDE", bit: 1)
        package static let kill = Capability(name: "KILL", bit: 5)
        package static let setGID = Capability(name: "SETGID", bit: 6)
        package static let setUID = Capability(name: "SETUID", bit: 7)
        package static let netBindService = Capability(name: "NET_BIND_SERVICE", bit: 10)
        package static let netAdmin = Capability(name: "NET_ADMIN", bit: 12)
        package static let netRaw = Capability(name: "NET_RAW", bit: 13)
        package static let sysAdmin = Capability(name: "SYS_ADMIN", bit: 21)
        package static let sysResource = Capability(name: "SYS_RESOURCE", bit: 24)
        package static let mknod = Capability(name: "MKNOD", bit: 27)
    }

    package func has(_ capability: Capability) -> Bool { capabilities >> capability.bit & 1 == 1 }

    /// To run programs as another user: to make them so, give them what they need, and end them.
    private static let toRunOthers: [Capability] = [.chown, .dacOverride, .kill, .setGID, .setUID]
    package static let namesToRunOthers =
        toRunOthers.dropLast().map(\.name).joined(separator: ", ") + " and \(Capability.setUID.name)"

    package var canRunOthers: Bool { Self.toRunOthers.allSatisfy(has) }
}
