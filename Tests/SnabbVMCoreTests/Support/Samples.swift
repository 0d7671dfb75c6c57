@testable import SnabbVMCore

/// A host and a machine to vary in tests.
enum Samples {
    static var facts: Facts {
        Facts(
            cpu: .init(model: "Sample CPU", count: 8, isSandyBridge: false),
            kvm: .init(state: .usable, group: 108, modules: ["kvm", "kvm_intel"]),
            memory: .init(total: .mebibytes(16384), available: .mebibytes(12000)),
            hugepages: [], hugetlbfs: [],
            privileges: .init(
                uid: 0, inContainer: false, firstUnprivilegedPort: 1024, capabilities: .max,
                qemuUser: User(uid: 65534, gid: 65534)),
            tools: .init(
                qemu: "/usr/bin/qemu-system-x86_64", qemuImg: "/usr/bin/qemu-img", xorriso: "/usr/bin/xorriso",
                tmux: "/usr/bin/tmux", cp: "/bin/cp", firmwareCode: "/usr/share/OVMF/CODE.fd",
                firmwareVariables: "/usr/share/OVMF/VARS.fd"))
    }

    static var image: DiskImage {
        DiskImage(
            path: "/u/disk.qcow2", format: .qcow2, virtualSize: .mebibytes(4096), isBlockDevice: false, fileSize: 1000,
            allocated: 1000,
            modified: 7)
    }

    static func plan(
        _ words: String..., facts: Facts = facts, change: (inout Inspected) -> Void = { _ in }
    ) throws -> Plan {
        let arguments = try Parser.parse(words.isEmpty ? ["/u/disk.qcow2"] : words, environment: [:])
        var inspected = Inspected(folders: Folders(arguments, uid: 0))
        inspected.image = arguments.image == nil ? nil : image
        inspected.programPath = "/usr/bin/snabbvm"
        change(&inspected)
        return try Plan(arguments, facts, inspected)
    }
}
