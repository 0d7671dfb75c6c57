import Images
import Model
import Planning
import System
import Values

/// One of the machine's own NICs.
struct GuestNICStatus: Codable, Equatable {
    enum Origin: String, Codable {
        case lease
        case agent = "guest agent"
        case plan
    }

    var name: String
    var mode: NetworkMode
    var mac: MACAddress
    var interface: String?
    var bridge: String?
    var device: String?
    var mtu: Int?
    var addresses: [IPAddress]
    var addressesFrom: Origin?
    var gateways: [IPAddress]
    var nameservers: [IPAddress]
    /// Where the launcher's side of the network finds the guest, if that is not at its own address.
    var reachedAt: IPAddress?

    /// What the guest asked for and took is surest; then what it says itself; then what it was meant to have.
    init(_ plan: GuestNICPlan, leases: [MACAddress: [IPAddress]], guest: [GuestInterface]?) {
        (name, mode, mac, interface) = (plan.name, plan.mode, plan.mac, plan.interface)
        (bridge, device, mtu, reachedAt) = (plan.bridge, plan.device, plan.mtu, plan.reachedAt)
        (gateways, nameservers) = (plan.addresses.compactMap(\.gateway), plan.nameservers)
        let told = guest?.filter { $0.mac == plan.mac }.flatMap(\.addresses) ?? []
        let planned = plan.addresses.map(\.address.address)
        if let leased = leases[plan.mac] {
            (addresses, addressesFrom) = (leased, .lease)
            // A lease of one kind says nothing of the other.
            let kinds = Set(leased.map(\.family))
            addresses += (told.isEmpty ? planned : told).filter { !kinds.contains($0.family) }
        } else if !told.isEmpty {
            (addresses, addressesFrom) = (told, .agent)
        } else {
            (addresses, addressesFrom) = (planned, planned.isEmpty ? nil : .plan)
        }
    }

    /// Where it can be spoken to: a guest may say that it is anywhere, also where this host or somebody else is.
    func reachable(_ plan: GuestNICPlan, besides own: Set<String>) -> [IPAddress] {
        let networks = plan.addresses.map(\.address)
        return addresses.filter { address in
            if address.isLoopback || address.isSpecial || own.contains(address.description) { return false }
            return networks.isEmpty ? !address.isLinkLocal : networks.contains { $0.contains(address) }
        }
    }

    var text: String {
        let from = addressesFrom.map { " (from the \($0.rawValue))" } ?? ""
        let shown = addresses.isEmpty ? "no address known" : addresses.map(\.description).joined(separator: ", ")
        let place = [interface, bridge, device].compactMap(\.self).joined(separator: ", ")
        return "\(mac) \(shown)\(from), \(mode)" + (place.isEmpty || mode.isJoined ? "" : " with \(place)")
    }
}

/// What `snabbvm status` tells of a running machine.
package struct MachineStatus: Codable, Equatable {
    package var name: String
    package var state: String
    package var pid: Int32
    var uuid: String
    var uptime: Double
    package var accelerator: AcceleratorChoice
    var cpus: Int
    var memory: Plan.MemoryPlan
    var firmware: Firmware
    var disks: [Plan.DiskPlan]
    var nics: [GuestNICStatus]
    var published: [PublishedPort]
    var ports: [PortStatus]
    /// How far the image is here that it boots from.
    var image: FetchProgress?
    var layout: Layout?
    var vnc: SocketAddress?
    var log: String
    /// An image that it reads is not what it was.
    var spoiled: String?

    package var text: String {
        let means = accelerator == .kvm ? "hardware virtualisation" : "software emulation"
        let pages = memory.pageSize.map { "in hugepages of \($0)" } ?? "ordinary"
        var rows: [(String, String)] = [
            ("state", "\(state), up \(Elapsed.duration(uptime)) (QEMU's pid \(pid))"),
            ("CPUs", "\(cpus), \(means), \(firmware.rawValue.uppercased())"),
            ("memory", "\(memory.size) \(pages)" + (memory.node.map { " on node \($0)" } ?? "")),
        ]
        for disk in disks {
            let size = disk.size.map { ", \($0)" } ?? ""
            rows.append((disk.role.rawValue, disk.path + size + (disk.base.map { ", on \($0.path)" } ?? "")))
        }
        if let image {
            let share = image.total.map { $0 == 0 ? "" : " of \(ByteCount($0)) (\(image.done * 100 / $0) %)" } ?? ""
            rows.append(("image", "\(image.state.rawValue), \(ByteCount(image.done))\(share)"))
        }
        rows += nics.map { ($0.name, $0.text) }
        for port in ports {
            let place = port.cpu.map { ", switch on CPU \($0)" } ?? ""
            let name = port.name + (port.mac.map { " \($0)" } ?? "")
            let text = "\(name), \(port.port) by \(port.engine.rawValue)\(place): \(port.state.rawValue)"
            rows.append((port.guestName, text))
        }
        if let cpus = layout?.machineCPUs {
            rows.append(("layout", "QEMU on CPUs \(cpus.ranges)" + (layout?.node.map { ", node \($0)" } ?? "")))
        }
        for port in published { rows.append(("published", "\(port)")) }
        rows.append(("VNC", vnc?.description ?? "off"))
        rows.append(("log", log))
        if let spoiled { rows.append(("problem", spoiled)) }
        return "machine \(name)\n" + rows.map { "  \($0.0.padded(to: 10))\($0.1.oneLine)" }.joined(separator: "\n")
    }

    /// Why it can't do what it is for, if so.
    package var problem: String? {
        if state != "running" { return "machine \(name) is \(state)" }
        if let spoiled { return "machine \(name): \(spoiled)" }
        guard let port = ports.first(where: { $0.state == .down }) else { return nil }
        return "machine \(name): port \(port.name) is down" + (port.problem.map { ": \($0)" } ?? "")
    }
}

/// Each NIC's addresses that it asked for and was given.
enum Leases {
    static func of(_ folders: MachinePaths) -> [MACAddress: [IPAddress]] {
        parse(FileTree().text(folders.leases) ?? "")
    }

    /// By MAC address; those of IPv6 stand below a line of their own.
    static func parse(_ text: String) -> [MACAddress: [IPAddress]] {
        var result: [MACAddress: [IPAddress]] = [:]
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            if fields.count >= 4, let address = IPAddress(fields[2]), let mac = MACAddress(fields[1]) {
                result[mac, default: []].append(address)
            }
        }
        return result
    }
}
