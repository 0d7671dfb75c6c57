import System
import Values

/// QEMU's control protocol, over the socket that it was started with.
final class QMP {
    private let channel: Channel
    private var buffer = LineBuffer()
    private var count: Int64 = 0
    private var pending: [Int64: Reply] = [:]
    private(set) var isReady = false

    typealias Reply = (_ result: JSON, _ problem: String?) -> Void

    var onReady: () -> Void = {}
    var onEvent: (_ name: String, _ data: JSON) -> Void = { _, _ in }

    init(_ channel: Channel) {
        self.channel = channel
        channel.onBytes = { [unowned self] in take($0) }
    }

    func execute(_ command: String, _ arguments: JSON? = nil, reply: @escaping Reply = { _, _ in }) {
        count += 1
        pending[count] = reply
        var message: [String: JSON] = ["execute": .string(command), "id": .integer(count)]
        message["arguments"] = arguments
        channel.outlet.send(JSON.object(message).text + "\n")
    }

    private func take(_ bytes: [UInt8]) {
        for line in buffer.lines(adding: bytes) {
            guard let message = try? JSON(parsing: line) else { continue }
            if message["QMP"] != nil {
                execute("qmp_capabilities") { [unowned self] _, _ in
                    isReady = true
                    onReady()
                }
            } else if let event = message["event"]?.string {
                onEvent(event, message["data"] ?? .null)
            } else if let id = message["id"]?.integer, let reply = pending.removeValue(forKey: id) {
                reply(message["return"] ?? .null, message["error"].map { $0["desc"]?.string ?? $0.text })
            }
        }
    }
}

/// The program in the guest that answers questions about it, where the guest has it.
final class GuestAgent {
    private let channel: Channel
    private let loop: EventLoop
    private var buffer = LineBuffer()
    private var waiting: [([GuestInterface]?) -> Void] = []
    private var timer: EventLoop.Timer?
    private var syncNumber: Int64 = 0
    private var isSynchronised = false
    /// Whether a program in the guest has the channel open; before that, words would only pile up.
    var isConnected = false {
        didSet { if !isConnected { answer(nil) } }
    }

    private static let patience = Duration.milliseconds(500)

    init(_ channel: Channel, loop: EventLoop) {
        self.channel = channel
        self.loop = loop
        channel.onBytes = { [unowned self] in take($0) }
    }

    /// The guest's interfaces as it sees them itself, or nil where it does not say.
    func interfaces(_ reply: @escaping ([GuestInterface]?) -> Void) {
        guard isConnected else { return reply(nil) }
        waiting.append(reply)
        guard waiting.count == 1 else { return }
        syncNumber += 1
        isSynchronised = false
        timer = loop.after(GuestAgent.patience) { [unowned self] in answer(nil) }
        // Answers of an earlier question may still come: only what follows this number is ours.
        let sync: JSON = ["execute": "guest-sync", "arguments": ["id": .integer(syncNumber)]]
        channel.outlet.send(sync.text + "\n" + (["execute": "guest-network-get-interfaces"] as JSON).text + "\n")
    }

    private func take(_ bytes: [UInt8]) {
        for line in buffer.lines(adding: bytes) {
            guard let message = try? JSON(parsing: line), let result = message["return"] else { continue }
            if isSynchronised {
                answer(GuestAgent.interfaces(in: result))
            } else if result.integer == syncNumber {
                isSynchronised = true
            }
        }
    }

    private func answer(_ interfaces: [GuestInterface]?) {
        loop.cancel(timer)
        let replies = waiting
        waiting = []
        for reply in replies { reply(interfaces) }
    }

    /// Without those that lead nowhere from outside.
    static func interfaces(in answer: JSON) -> [GuestInterface] {
        (answer.array ?? []).filter { $0["name"]?.string != "lo" }.map { interface in
            let addresses = (interface["ip-addresses"]?.array ?? []).compactMap {
                $0["ip-address"]?.string.flatMap { IPAddress($0) }
            }
            return GuestInterface(
                mac: interface["hardware-address"]?.string.flatMap { MACAddress($0) },
                addresses: addresses.filter { !($0.isSix && $0.isLinkLocal) })
        }
    }
}

package struct GuestInterface: Equatable {
    /// What it has in its place need not be one of Ethernet.
    var mac: MACAddress?
    var addresses: [IPAddress]
}
