import CLinux
import Planning
import System
import Values

/// Finds addresses that nobody has, by asking the network for them as RFC 5227 (ARP) and RFC 4862 (neighbour discovery)
/// do, but within a quarter of a second: whoever is beside a container answers in microseconds. From then on it keeps
/// them for the machine until that answers itself, and tells when another host uses one.
package final class AddressGuard {
    private final class Post {
        let search: AddressSearch
        let socket: HeldDescriptor
        /// Those that are asked about now.
        var asked: ArraySlice<IPAddress> = []
        var rest: ArraySlice<IPAddress>
        var holders: [IPAddress: MACAddress] = [:]
        /// Who asks at the same time, and about which.
        var rivals: [MACAddress: Set<IPAddress>] = [:]
        var chosen: IPAddress?
        /// Who was seen to use that all the same.
        var trespassers: Set<MACAddress> = []
        var isDone = false
        /// Another host has the machine's MAC address.
        var hasTwin = false
        var mac: MACAddress { search.mac }

        init(_ search: AddressSearch) throws(Failure) {
            self.search = search
            rest = search.candidates[...]
            let interface = search.place.interface
            let raw = try Failure.naming(
                .network, "look for a free address at", interface,
                try Errno.check { clinux_neighbour_socket(interface) }
            ) { $0.isRefusal ? "docker run --cap-add NET_RAW" : nil }
            socket = HeldDescriptor(Descriptor(raw))
        }
    }

    private let loop: EventLoop
    private let log: Log
    private let posts: [Post]
    /// The machine has its addresses: what is heard from now on, its owner hears.
    private var hasFinished = false

    private static let atOnce = 4
    private static let probes = 3
    private static let between = Duration.milliseconds(50)
    private static let lastWait = Duration.milliseconds(150)

    package init(_ searches: [AddressSearch], loop: EventLoop, log: Log) throws(Failure) {
        self.loop = loop
        self.log = log
        posts = try searches.map { search throws(Failure) in try Post(search) }
        for post in posts {
            loop.watch(post.socket.raw, for: .readable) { [weak self] _ in self?.read(post) }
            ask(post)
        }
    }

    deinit { for post in posts { loop.unwatch(post.socket.raw) } }

    /// Addresses that were found to be free; and who has those that were asked for.
    package typealias Answers = (free: [AddressPlace: IPAddress], holders: [IPAddress: String])

    /// Where nobody is asked, the first that could be free is taken to be so.
    package static func expected(_ searches: [AddressSearch]) -> Answers {
        var answers: Answers = ([:], [:])
        for search in searches where search.isChoice { answers.free[search.place] = search.candidates.first }
        return answers
    }

    package func finish() throws -> Answers {
        try loop.run { posts.allSatisfy(\.isDone) }
        hasFinished = true
        var answers: Answers = ([:], [:])
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

    private func ask(_ post: Post) {
        post.asked = post.rest.prefix(post.search.isChoice ? AddressGuard.atOnce : 1)
        post.rest = post.rest.dropFirst(post.asked.count)
        post.isDone = post.asked.isEmpty
        if !post.isDone { probe(post, left: AddressGuard.probes) }
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
        post.chosen = left.first
        if let chosen = post.chosen {
            // Others who look for an address must know at once.
            send(Neighbour.claim(of: chosen, by: post.mac), post)
        } else if post.search.isChoice {
            return ask(post)
        } else if let asked = post.asked.first, post.holders.isEmpty {
            post.holders[asked] = before.keys.first
        }
        post.isDone = true
    }

    private func send(_ frame: [UInt8], _ post: Post) {
        // A network that is down for a moment loses a frame, as it loses others.
        _ = clinux_send_frame(post.socket.raw, frame, frame.count)
    }

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
        if !post.hasTwin, hasFinished {
            log.warning("another host has the machine's MAC address \(post.mac): give one of them another (--mac)")
        }
        post.hasTwin = true
    }

    private func hear(_ said: Neighbour, _ post: Post) {
        if let chosen = post.chosen {
            guard said.address == chosen else { return }
            if said.isProbe { return send(Neighbour.claim(of: chosen, by: post.mac), post) }
            if said.isClaim, hasFinished, post.trespassers.insert(said.sender).inserted {
                log.warning("another host, with MAC address \(said.sender), uses \(chosen), which is the machine's")
            }
            return
        }
        guard post.asked.contains(said.address) else { return }
        if said.isProbe { post.rivals[said.sender, default: []].insert(said.address) }
        if said.isClaim { post.holders[said.address] = said.sender }
    }
}
