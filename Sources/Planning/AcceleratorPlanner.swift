import Model
import Values

/// What the machine's processors are: the host's own, by its virtualisation, or software.
enum AcceleratorPlanner {
    static func plan(_ arguments: Arguments, _ facts: HostFacts) throws(Failure) -> PlanPart<AcceleratorChoice> {
        let why: String
        switch facts.kvm.state {
        case .usable where arguments.accelerator == .tcg || facts.canGiveKVM:
            return PlanPart(decision: arguments.accelerator == .tcg ? .tcg : .kvm)
        case .usable: why = "/dev/kvm is root's alone, and to give it to QEMU takes the rights MKNOD and SYS_ADMIN"
        case .absent: why = "there is no /dev/kvm"
        case .notPermitted: why = "this user may not open /dev/kvm"
        case .cannotRunGuests:
            why = "/dev/kvm can't run ordinary guests here (\(facts.kvm.modules.joined(separator: ", ")) only)"
        }
        switch arguments.accelerator {
        case .tcg: return PlanPart(decision: .tcg)
        case .auto:
            let note = "no hardware virtualisation, so the machine runs many times slower: \(why)"
            return PlanPart(decision: .tcg, notes: [note])
        case .kvm: throw Failure(.host, "use", "--accel kvm", why, remedy: "--accel auto runs it in software here")
        }
    }
}

extension HostFacts {
    /// Whether QEMU's user can open it, or be given it as its own.
    fileprivate var canGiveKVM: Bool {
        guard let user = privileges.qemuUser, user.uid != 0 else { return true }
        return kvm.forAnyone || kvm.group != nil || privileges.has(.mknod) && privileges.has(.sysAdmin)
    }
}
