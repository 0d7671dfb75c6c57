extension HostFacts.Privileges {
    package enum Capability: UInt64 {
        case chown = 0
        case dacOverride = 1
        case kill = 5
        case setGID = 6
        case setUID = 7
        case netBindService = 10
        case netAdmin = 12
        case netRaw = 13
        case sysAdmin = 21

        package var name: String {
            switch self {
            case .chown: "CHOWN"
            case .dacOverride: "DAC_OVERRIDE"
            case .kill: "KILL"
            case .setGID: "SETGID"
            case .setUID: "SETUID"
            case .netBindService: "NET_BIND_SERVICE"
            case .netAdmin: "NET_ADMIN"
            case .netRaw: "NET_RAW"
            case .sysAdmin: "SYS_ADMIN"
            }
        }
    }

    package func has(_ capability: Capability) -> Bool { capabilities >> capability.rawValue & 1 == 1 }

    /// To run programs as another user: to make them so, give them what they need, and end them.
    private static let toRunOthers: [Capability] = [.chown, .dacOverride, .kill, .setGID, .setUID]
    package static let namesToRunOthers =
        toRunOthers.dropLast().map(\.name).joined(separator: ", ") + " and \(Capability.setUID.name)"

    package var canRunOthers: Bool { Self.toRunOthers.allSatisfy(has) }
}
