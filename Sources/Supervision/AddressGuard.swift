import CLinux
import Glibc
import Model
import Planning
import System
import Values

/// Finds addresses that nobody has, by asking the network for them as RFC 5227 (ARP) and RFC 4862 (neighbour discovery) do,
/// but within a quarter of a second: whoever is beside a container answers in microseconds. From then on it keeps them for the machine
/// until that answers itself, and tells when another host uses one.
package final class AddressGuard {
    /// A place and its socket.
    private final class Post {
        let search: AddressSearch
        let mac: MACAddress
        let socket: HeldDescriptor
        /// Those that are asked about now.
        var asked: ArraySlice<IPAddress> = []
        var rest: ArraySlice<IPAddress>
        var holders: [IPAddress: MACAddress] = [:]
        /// Who asks at the same time, and about which.
        var rivals: [MACAddress: Set<IPAddress>] = [:]
        var chosen: IPAddress?
        var isDone = false
        /// Another host has the machine's MAC address.
        var hasTwin = false

        init(_ search: AddressSearch) throws(Failure) {
            self.search = search
            mac = search.mac
            rest = search.candidates[...]
            do throws(Errno) {
                socket = HeldDescriptor(
                    Descriptor(try Errno.check { clinux_neighbour_socket(search.place.interface) }))
            } catch {
                throw Failure(
                    .network, "look for a free address at", search.place.interface, error,
                    remedy: error.isRefusal ? "docker run --cap-add NET_RAW" : nil)
            }
        }
    }

    private let loop: EventLoop
    private let posts: [Post]
    private var told: Set<String> = []
    /// Another host has an address of the machine.
    var onConflict: (IPAddress, MACAddress) -> Void = { _, _ in }
    /// Another host has its MAC address.
    var onTwin: (MACAddress) -> Void = { _ in }

    private static let atOnce = 4
    private static let probes = 3
    private static let between = Duration.milliseconds(50)
    private static let lastWait = Duration.milliseconds(150)

    package init(_ searches: [AddressSearch], loop: EventLoop) throws(Failure) {
        self.loop = loop
        var posts: [Post] = []
        for search in searches { posts.append(try Post(search)) }
        self.posts = posts
        for post in posts {
            loop.watch(post.socket.raw, for: .readable) { [weak self] _ in self?.read(post) }
            ask(post)
        }
    }

    deinit { for post in posts { loop.unwatch(post.socket.raw) } }

    /// Addresses that were found to be free; and who has those that were asked for.
    package struct Answers {
        package var free: [AddressPlace: IPAddress] = [:]
        package var holders: [IPAddress: String] = [:]

        package init() {}
    }

    /// Where nobody is asked, the first that could be free is taken to be so.
    package static func expected(_ searches: [AddressSearch]) -> Answers {
        var answers = Answers()
        for search in searches where search.isChoice { answers.free[search.place] = search.candidates.first }
        return answers
    }

    /// Waits for the answers.
    package func finish() throws -> Answers {
        try loop.run { posts.allSatisfy(\.isDone) }
        var answers = Answers()
        for post in posts {
            if post.hasTwin {
                throw Failure(
                    .network, "give the machine", "MAC address \(post.mac)", "another host beside it has the same",
                    remedy: "choose another with --mac or --name")
            }
            if let chosen = post.chosen { answers.free[post.search.place] = chosen }
            if post.search.isChoice { continue }
            for (address, mac) in post.holders { answers.holders[address] = "the host with MAC address \(mac)" }
        }
        return answers
    }

    // MARK: - Asking

    private func ask(_ post: Post) {
        post.asked = post.rest.prefix(post.search.isChoice ? AddressGuard.atOnce : 1)
        post.rest = post.rest.dropFirst(post.asked.count)
        if post.asked.isEmpty {
            post.isDone = true
            return
        }
        probe(post, left: AddressGuard.probes)
    }

    private func probe(_ post: Post, left: Int) {
        for address in post.asked { send(Neighbour.probe(for: address, by: post.mac), post) }
        if left > 1 {
            loop.after(AddressGuard.between) { [weak self] in self?.probe(post, left: left - 1) }
        } else {
            loop.after(AddressGuard.lastWait) { [weak self] in self?.choose(post) }
        }
    }

    private func choose(_ post: Post) {
        var left = post.asked.filter { post.holders[$0] == nil }
        // Those with a lower MAC address choose first, each the first that it asked about: all who ask see it so.
        // Who has claimed one by now has chosen.
        let before = post.rivals.filter {
            $0.key.bytes.lexicographicallyPrecedes(post.mac.bytes) && !post.holders.values.contains($0.key)
        }
        for (_, asked) in before.sorted(by: { $0.key.bytes.lexicographicallyPrecedes($1.key.bytes) }) {
            if let theirs = left.firstIndex(where: asked.contains) { left.remove(at: theirs) }
        }
        let free = left.first
        if free == nil, post.search.isChoice { return ask(post) }
        if let asked = post.asked.first, free == nil, post.holders.isEmpty { post.holders[asked] = before.keys.first }
        post.chosen = free
        post.isDone = true
        // Others who look for an address must know at once.
        if let free { send(Neighbour.claim(of: free, by: post.mac), post) }
    }

    private func send(_ frame: [UInt8], _ post: Post) {
        // A network that is down for a moment loses a frame, as it loses others.
        _ = clinux_send_frame(post.socket.raw, frame, frame.count)
    }

    // MARK: - Hearing

    private func read(_ post: Post) {
        var frame = [UInt8](repeating: 0, count: 256)
        var isOutgoing: Int32 = 0
        while case let count = clinux_receive_frame(post.socket.raw, &frame, frame.count, &isOutgoing), count > 0 {
            if isOutgoing != 0 { continue }
            guard let said = Neighbour(frame.prefix(count)) else { continue }
            if said.sender != post.mac {
                hear(said, post)
            } else if post.search.isOutside {
                // What the machine itself says goes out here and does not come in.
                hearTwin(said, post)
            }
        }
    }

    /// It may not have heard of us: what is sent to this MAC address comes back to who sent it.
    private func hearTwin(_ said: Neighbour, _ post: Post) {
        if let chosen = post.chosen, said.isProbe { send(Neighbour.claim(of: chosen, by: post.mac), post) }
        if post.hasTwin { return }
        post.hasTwin = true
        if post.isDone { onTwin(post.mac) }
    }

    private func hear(_ said: Neighbour, _ post: Post) {
        if let chosen = post.chosen {
            guard said.address == chosen else { return }
            if said.isProbe { return send(Neighbour.claim(of: chosen, by: post.mac), post) }
            if said.isClaim, told.insert("\(chosen) \(said.sender)").inserted { onConflict(chosen, said.sender) }
            return
        }
        guard post.asked.contains(said.address) else { return }
        if said.isProbe { post.rivals[said.sender, default: []].insert(said.address) }
        if said.isClaim { post.holders[said.address] = said.sender }
    }
}
