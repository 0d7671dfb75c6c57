import CLinux
import Glibc
import System
import Values

/// Serves a file that is still coming as an NBD export, for reading: whoever reads what is not there yet waits for it.
final class NBDServer {
    private let listener: Descriptor
    private let loop: EventLoop
    private let file: Int32
    private let length: UInt64
    private var clients: [Int32: NBDClient] = [:]

    var isThere: (Range<UInt64>) -> Bool = { _ in true }
    /// Somebody waits for these bytes.
    var onWait: (Range<UInt64>) throws -> Void = { _ in }

    init(_ path: String, owner: User?, file: Int32, length: UInt64, loop: EventLoop) throws(Failure) {
        self.loop = loop
        self.file = file
        self.length = length
        unlink(path)
        do throws(Errno) {
            listener = Descriptor(try Errno.check { clinux_listen(path) })
            try listener.setNonBlocking()
            if let owner { try Errno.check { chown(path, owner.uid, owner.gid) } }
        } catch {
            throw Failure(.host, "listen on", path, error)
        }
        loop.watch(listener.raw, for: .readable) { [unowned self] _ in accept() }
    }

    private func accept() {
        let raw = Glibc.accept(listener.raw, nil, nil)
        guard raw >= 0 else { return }
        _ = fcntl(raw, F_SETFD, FD_CLOEXEC)
        let client = NBDClient(raw, file: file, length: length, loop: loop)
        client.isThere = { [unowned self] in isThere($0) }
        client.onWait = { [unowned self] in try onWait($0) }
        client.onClose = { [unowned self] in clients[raw] = nil }
        clients[raw] = client
    }

    /// More of the file is there.
    func serve() throws {
        for client in Array(clients.values) { try client.serve() }
    }
}

/// One reader: the handshake of the protocol, then its requests, answered in their order.
private final class NBDClient {
    private enum Phase {
        case flags, options, requests
    }

    private struct Read {
        var handle: UInt64
        var offset: UInt64
        var count: UInt64
        var isAnswered = false
        var range: Range<UInt64> { offset..<offset + count }
    }

    private let socket: Descriptor
    private let file: Int32
    private let length: UInt64
    private let loop: EventLoop
    private var phase = Phase.flags
    private var input: [UInt8] = []
    private var output: [UInt8] = []
    private var reads: [Read] = []
    private var isClosed = false
    private var sendsZeroes = true

    var isThere: (Range<UInt64>) -> Bool = { _ in true }
    var onWait: (Range<UInt64>) throws -> Void = { _ in }
    var onClose: () -> Void = {}

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

    init(_ raw: Int32, file: Int32, length: UInt64, loop: EventLoop) {
        socket = Descriptor(raw)
        self.file = file
        self.length = length
        self.loop = loop
        try? socket.setNonBlocking()
        loop.watch(raw, for: .readable) { [self] in try handle($0) }
        put(Word.greeting)
        put(Word.option)
        // Fixed newstyle, and no zeroes after the export's size.
        put(UInt16(0b11))
        try? flush()
    }

    private func handle(_ events: EventLoop.Events) throws {
        if events.contains(.writable) { try flush() }
        guard !isClosed, !events.isDisjoint(with: [.readable, .hangup]) else { return }
        do throws(Errno) {
            let bytes = try socket.read(atMost: 65536)
            if bytes.isEmpty { return close() }
            input += bytes
        } catch {
            if error != .wouldBlock { return close() }
        }
        while !isClosed, try takeMessage() {}
        try flush()
    }

    private func close() {
        if isClosed { return }
        isClosed = true
        loop.unwatch(socket.raw)
        onClose()
    }

    // MARK: - What it says

    private func number<Number: FixedWidthInteger>(_ place: Int, _ type: Number.Type) -> Number {
        let size = MemoryLayout<Number>.size
        return input[place..<place + size].reduce(0) { $0 << 8 | Number($1) }
    }

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
            put(Word.optionReply)
            put(option)
            put(kind)
            put(UInt32(content.count))
            output += content
        }
        switch option {
        case 1:  // the export's name, and on with it
            put(length)
            put(Word.transmission)
            if sendsZeroes { output += [UInt8](repeating: 0, count: 124) }
            phase = .requests
        case 2:  // the end
            reply(1, [])
            close()
        case 6, 7:  // tell of the export, and go on with it
            let about = bytes(UInt16(0)) + bytes(length) + bytes(Word.transmission)
            reply(3, about)
            reply(1, [])
            if option == 7 { phase = .requests }
        default: reply(1 << 31 | 1, [])  // nothing that is offered here
        }
    }

    private func answer(request kind: UInt16, _ handle: UInt64, _ offset: UInt64, _ count: UInt64) throws {
        switch kind {
        case 0:
            guard count > 0, count <= Word.largest, offset <= length, count <= length - offset else {
                return refuse(handle, EINVAL)
            }
            let read = Read(handle: handle, offset: offset, count: count)
            reads.append(read)
            if !isThere(read.range) { try onWait(read.range) }
        case 2: close()
        case 3: refuse(handle, 0)  // nothing was written
        default: refuse(handle, EPERM)
        }
    }

    /// An answer without content must not come between another's head and content.
    private func refuse(_ handle: UInt64, _ error: Int32) {
        let bytes = bytes(Word.reply) + bytes(UInt32(error)) + bytes(handle)
        if reads.contains(where: \.isAnswered) { late += bytes } else { output += bytes }
    }
    private var late: [UInt8] = []

    // MARK: - What it is told

    private func bytes<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        withUnsafeBytes(of: number.bigEndian) { Array($0) }
    }

    private func put<Number: FixedWidthInteger>(_ number: Number) { output += bytes(number) }

    func serve() throws { if !isClosed, !reads.isEmpty { try flush() } }

    /// Sends what there is and what the reader takes: those reads first whose bytes are there.
    private func flush() throws {
        while !isClosed {
            if !output.isEmpty {
                let count = output.withUnsafeBytes { write(socket.raw, $0.baseAddress, $0.count) }
                if count < 0 { return wait(after: Errno.last) }
                output.removeFirst(count)
                continue
            }
            if let place = reads.firstIndex(where: \.isAnswered) {
                var from = off_t(reads[place].offset)
                let count = sendfile(socket.raw, file, &from, Int(reads[place].count))
                if count < 0 { return wait(after: Errno.last) }
                if count == 0 { return close() }
                reads[place].offset += UInt64(count)
                reads[place].count -= UInt64(count)
                if reads[place].count == 0 { reads.remove(at: place) }
                continue
            }
            if !late.isEmpty {
                (output, late) = (late, [])
                continue
            }
            guard let place = reads.firstIndex(where: { isThere($0.range) }) else { break }
            reads[place].isAnswered = true
            output = bytes(Word.reply) + bytes(UInt32(0)) + bytes(reads[place].handle)
        }
        if !isClosed { loop.change(socket.raw, to: .readable) }
    }

    private func wait(after error: Errno) {
        switch error {
        case .wouldBlock: loop.change(socket.raw, to: [.readable, .writable])
        case .interrupted: loop.change(socket.raw, to: [.readable, .writable])
        default: close()
        }
    }
}
