import Glibc
import System
import Values

/// Serves a file that is still coming as an NBD export, for reading: whoever reads what is not there yet waits for it.
final class NBDServer {
    private var listener: Listener?
    fileprivate let loop: EventLoop
    fileprivate let file: Int32
    fileprivate let length: UInt64
    private var clients: [Int32: NBDClient] = [:]

    var isThere: (Range<UInt64>) -> Bool = { _ in true }
    /// Somebody waits for these bytes.
    var onWait: (Range<UInt64>) throws -> Void = { _ in }

    init(_ request: FetchRequest, file: Int32, length: UInt64, loop: EventLoop) throws(Failure) {
        self.loop = loop
        self.file = file
        self.length = length
        let path = request.lazySocket!
        listener = try Listener(path, loop: loop) { [unowned self] in
            clients[$0] = NBDClient($0, self)
        }
        if let owner = request.lazyOwner {
            try Failure.naming(.host, "listen on", path, try Errno.check { chown(path, owner.uid, owner.gid) })
        }
    }

    /// Another serves at this path from now on, and who reads connects to that.
    func close() {
        listener?.close()
        for client in Array(clients.values) { client.close() }
    }

    /// More of the file is there.
    func serve() {
        for client in Array(clients.values) { client.flush() }
    }

    fileprivate func forget(_ raw: Int32) { clients[raw] = nil }
}

/// One reader: the handshake of the protocol, then its requests, each answered once its bytes are there.
private final class NBDClient {
    private enum Phase { case flags, options, requests }

    /// Bytes, and a part of the file behind them.
    private struct Answer {
        var bytes: [UInt8]
        var content: Range<UInt64> = 0..<0
    }

    private unowned let server: NBDServer
    private let socket: Descriptor
    private var phase = Phase.flags
    private var input: [UInt8] = []
    /// Answers whose bytes are there, and those that wait for them.
    private var answers: [Answer] = []
    private var waiting: [Answer] = []
    private var isClosed = false
    private var sendsZeroes = true

    /// What the protocol calls things.
    private enum Word {
        static let greeting: UInt64 = 0x4e42_444d_4147_4943
        static let option: UInt64 = 0x4948_4156_454f_5054
        static let optionReply: UInt64 = 0x3_e889_0455_65a9
        static let request: UInt32 = 0x2560_9513
        static let reply: UInt32 = 0x6744_6698
        /// Has flags, reads only, several connections see the same.
        static let transmission: UInt16 = 0b1_0000_0011
        static let largest: UInt64 = 32 << 20
    }

    init(_ raw: Int32, _ server: NBDServer) {
        socket = Descriptor(raw)
        self.server = server
        try? socket.setNonBlocking()
        server.loop.watch(raw, for: .readable) { [self] in try handle($0) }
        // Fixed newstyle, and no zeroes after the export's size.
        send(bytes(Word.greeting) + bytes(Word.option) + bytes(UInt16(0b11)))
        flush()
    }

    private func handle(_ events: EventLoop.Events) throws {
        if events.contains(.writable) { flush() }
        guard !isClosed, !events.isDisjoint(with: [.readable, .hangup]) else { return }
        do throws(Errno) {
            let bytes = try socket.read(atMost: 65536)
            if bytes.isEmpty { return close() }
            input += bytes
        } catch {
            if error != .wouldBlock { return close() }
        }
        while !isClosed, try takeMessage() {}
        flush()
    }

    func close() {
        if isClosed { return }
        isClosed = true
        server.loop.unwatch(socket.raw)
        server.forget(socket.raw)
    }

    // MARK: - What it says

    private func number<Number: FixedWidthInteger>(_ place: Int, _ type: Number.Type) -> Number {
        let size = MemoryLayout<Number>.size
        return input[place..<place + size].reduce(0) { $0 << 8 | Number($1) }
    }

    /// Whether there was a whole one; what makes no sense ends the connection.
    private func takeMessage() throws -> Bool {
        switch phase {
        case .flags:
            guard input.count >= 4 else { return false }
            sendsZeroes = input[3] & 2 == 0
            input.removeFirst(4)
            phase = .options
        case .options:
            guard input.count >= 16 else { return false }
            let size = Int(number(12, UInt32.self))
            guard number(0, UInt64.self) == Word.option, size <= 65536 else {
                close()
                return false
            }
            guard input.count >= 16 + size else { return false }
            let option = number(8, UInt32.self)
            input.removeFirst(16 + size)
            answer(option: option)
        case .requests:
            guard input.count >= 28 else { return false }
            guard number(0, UInt32.self) == Word.request else {
                close()
                return false
            }
            let (kind, handle) = (number(6, UInt16.self), number(8, UInt64.self))
            let (offset, count) = (number(16, UInt64.self), UInt64(number(24, UInt32.self)))
            input.removeFirst(28)
            try answer(request: kind, handle, offset, count)
        }
        return true
    }

    private func answer(option: UInt32) {
        let reply = { [self] (kind: UInt32, content: [UInt8]) in
            send(bytes(Word.optionReply) + bytes(option) + bytes(kind) + bytes(UInt32(content.count)) + content)
        }
        let about = bytes(server.length) + bytes(Word.transmission)
        switch option {
        case 1:  // the export's name, and on with it
            send(about + [UInt8](repeating: 0, count: sendsZeroes ? 124 : 0))
            phase = .requests
        case 2:  // the end
            reply(1, [])
            close()
        case 6, 7:  // tell of the export, and go on with it
            reply(3, bytes(UInt16(0)) + about)
            reply(1, [])
            if option == 7 { phase = .requests }
        default: reply(1 << 31 | 1, [])  // nothing that is offered here
        }
    }

    private func answer(request kind: UInt16, _ handle: UInt64, _ offset: UInt64, _ count: UInt64) throws {
        let reply = { [self] (error: Int32) in bytes(Word.reply) + bytes(UInt32(error)) + bytes(handle) }
        switch kind {
        case 0:
            guard count > 0, count <= Word.largest, offset <= server.length, count <= server.length - offset else {
                return send(reply(EINVAL))
            }
            let content = offset..<offset + count
            waiting.append(Answer(bytes: reply(0), content: content))
            if !server.isThere(content) { try server.onWait(content) }
        case 2: close()
        case 3: send(reply(0))  // nothing was written
        default: send(reply(EPERM))
        }
    }

    // MARK: - What it is told

    private func bytes<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        withUnsafeBytes(of: number.bigEndian) { Array($0) }
    }

    private func send(_ bytes: [UInt8]) { answers.append(Answer(bytes: bytes)) }

    /// Sends what there is and what the reader takes.
    func flush() {
        answers += waiting.filter { server.isThere($0.content) }
        waiting.removeAll { server.isThere($0.content) }
        while !isClosed, let answer = answers.first {
            if !answer.bytes.isEmpty {
                let count = answer.bytes.withUnsafeBytes { write(socket.raw, $0.baseAddress, $0.count) }
                if count < 0 { return wait(after: Errno.last) }
                answers[0].bytes.removeFirst(count)
            } else if !answer.content.isEmpty {
                let (start, end) = (answer.content.lowerBound, answer.content.upperBound)
                var from = off_t(start)
                let count = sendfile(socket.raw, server.file, &from, Int(end - start))
                if count < 0 { return wait(after: Errno.last) }
                if count == 0 { return close() }
                answers[0].content = start + UInt64(count)..<end
            } else {
                answers.removeFirst()
            }
        }
        if !isClosed { server.loop.change(socket.raw, to: .readable) }
    }

    private func wait(after error: Errno) {
        let isPassing = error == .wouldBlock || error == .interrupted
        if isPassing { server.loop.change(socket.raw, to: [.readable, .writable]) } else { close() }
    }
}
