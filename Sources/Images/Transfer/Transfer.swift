import Model
import System
import Values

/// Brings a file here, from where it broke off, over as many connections as are worth it, into a PartialFile.
final class Transfer {
    enum Outcome {
        case whole
        /// The server has the file that was asked about.
        case notModified
        case failed(Failure, isAbsence: Bool)
    }

    private final class Connection {
        var request: WebRequest?
        /// What it is to bring; the end is unknown where the length is.
        var position: UInt64
        var limit: UInt64?
        /// It asked for the file only if it is another one than is known.
        var isConditional = false
        /// Somebody waits for it.
        let isWanted: Bool

        init(_ position: UInt64, _ limit: UInt64?, isWanted: Bool = false) {
            self.position = position
            self.limit = limit
            self.isWanted = isWanted
        }
    }

    private let worker: FetchWorker
    private let address: ImageURL
    private let web: Web
    private let part: PartialFile
    /// What is in the cache already, to be fetched only if the server has another one now.
    private let known: Validators?
    private var connections: [Connection] = []
    /// In a row, without a byte more than there ever were.
    private var failures = 0
    private var most: UInt64
    private var retry: EventLoop.Timer?
    private var saving: EventLoop.Timer?
    private var outcome: Outcome?
    private var servesRanges = true
    /// It has said so, or done it.
    private var hasServedRanges = false
    private var hasAnswer: Bool
    /// Why an answer was cut off.
    private var oddity: String?
    private var splitting = Splitting()
    private var splitTimer: EventLoop.Timer?

    /// Bytes have come.
    var onBytes: () throws -> Void = {}
    /// What was there is worth nothing: it begins anew.
    var onReset: () throws -> Void = {}

    /// Fetches only what it is asked for, and the rest when nobody asks. It was seen already that the part's record is
    /// what the server has, and that the server serves ranges.
    private let isLazy: Bool
    private var wanted: [Range<UInt64>] = []
    private var lastWanted: Range<UInt64>?

    /// Nobody compares a digest: the server is asked at the end whether it was one file all the time.
    private let asksAtEnd: Bool
    private var isConfirmed = false
    private var questions = 0
    private var changes = 0

    init(
        _ worker: FetchWorker, _ address: ImageURL, web: Web, into part: PartialFile, known: Validators? = nil,
        isLazy: Bool = false, asksAtEnd: Bool
    ) {
        self.asksAtEnd = asksAtEnd
        self.worker = worker
        self.address = address
        self.part = part
        self.known = known
        self.web = web
        self.isLazy = isLazy
        hasAnswer = isLazy
        most = part.present.count
    }

    private var settings: WebSettings { worker.request.web }
    private var loop: EventLoop { worker.loop }

    func start() throws {
        if address.isFTP { return try askFTP() }
        if part.isWhole, !hasAnswer {
            // It can only be asked about by what tells it from others.
            if part.record.validators.condition != nil { return try askAgain() }
            try begin(anew: Validators())
        }
        try next()
    }

    func wait() throws -> Outcome {
        try loop.run { outcome != nil }
        return outcome!
    }

    private func begin(anew validators: Validators) throws {
        let hadSome = part.present.count > 0
        // A machine runs on it, to which nothing else can be given.
        if isLazy {
            throw Failure(
                .fetch, "go on fetching", address.shown, "the file was changed on the server",
                remedy: "stop the machine and start it again, to have the new one")
        }
        hasAnswer = false
        try part.reset(validators)
        if hadSome { try onReset() }
    }

    // MARK: - Asking

    /// All of it is here, but is it still what the server has?
    private func askAgain() throws {
        // A byte of it: not every server that signs addresses lets others ask without content.
        let request = try WebRequest(address, in: web, range: (0, 1), patience: patience)
        request.onHead = { _ in false }
        request.onEnd = { [self, unowned request] failure in
            if let failure { return try recover(from: failure) }
            let head = request.head
            guard [200, 206].contains(head.status) else { return try recover(from: WebFailure(status: head.status)) }
            if head.validators.isSameFile(as: part.record.validators) { return try finish(.whole) }
            try begin(anew: Validators())
            try next()
        }
    }

    // MARK: - At the end

    private static let mostQuestions = 3
    private static let mostChanges = 3

    /// All of it is here, in pieces that came one after the other: it may have been overwritten between them.
    private func confirm() throws {
        if address.isFTP { return try askFTP() }
        let was = part.record.validators
        if was.etag == nil, was.lastModified == nil { return try finish(.whole) }
        // A byte of it, or from who sends no parts nothing.
        let hasRanges = isLazy || hasServedRanges
        let request = try WebRequest(
            address, in: web, range: hasRanges ? (0, 1) : nil, headOnly: !hasRanges, patience: patience)
        request.onHead = { _ in false }
        request.onEnd = { [self, unowned request] failure in
            let head = request.head
            if failure == nil, [200, 206].contains(head.status) {
                return try head.validators.isStill(was) ? finish(.whole) : beginAgain()
            }
            try doubt(failure ?? WebFailure(status: head.status))
        }
    }

    private func beginAgain() throws {
        changes += 1
        guard changes < Transfer.mostChanges || isLazy else {
            throw Failure(
                .fetch, "fetch", address.shown, "it is changed on its server again and again",
                remedy: "start again when that is over")
        }
        note(Transfer.wasChanged)
        try begin(anew: Validators())
        try next()
    }

    /// Signed addresses expire, and servers go away: what is here is taken then, with a word.
    private func doubt(_ failure: WebFailure) throws {
        questions += 1
        if failure.isPassing, questions < Transfer.mostQuestions {
            retry = loop.after(.seconds(settings.sleep)) { [unowned self] in
                retry = nil
                try confirm()
            }
            return
        }
        say(
            .warning(
                "\(address.shown): whether it was changed while it came is not known, since its server does not say any"
                    + " more (\(failure.words)); --checksum would tell"))
        try finish(.whole)
    }

    /// FTP has no conditions: first the size and the time, then the file.
    private func askFTP() throws {
        let request = try WebRequest(address, in: web, headOnly: true, patience: patience)
        request.onEnd = { [self, unowned request] failure in
            if let failure { return try recover(from: failure) }
            var now = request.head.validators
            now.isDateStrong = now.lastModified != nil
            if let known, now.length != nil, now.isSameFile(as: known) { return try finish(.notModified) }
            if part.present.count > 0, now.lastModified == nil || !now.isSameFile(as: part.record.validators) {
                note(Transfer.wasChanged)
                try begin(anew: now)
            } else if part.present.count == 0 {
                try part.reset(now)
            }
            hasAnswer = true
            isConfirmed = part.isWhole
            try next()
        }
    }

    private var patience: Double { settings.timeout + settings.tick * Double(min(failures, 60)) }

    /// Puts those to work that have nothing to do.
    private func next() throws {
        if outcome != nil || retry != nil { return }
        if hasAnswer, part.isWhole { return try asksAtEnd && !isConfirmed ? confirm() : finish(.whole) }
        while connections.count < allowed, let connection = nextConnection() { try open(connection) }
    }

    /// The first answer tells what the server can do.
    private var allowed: Int { !hasAnswer ? 1 : isLazy ? 3 : splitting.connections }

    private func nextConnection() -> Connection? {
        guard let length = part.length else {
            return connections.isEmpty ? Connection(part.frontier, nil) : nil
        }
        if isLazy { return nextLazyConnection(length) }
        guard let gap = freeGap(from: 0, length) else { return nil }
        // One connection alone takes all that is missing up to what is there already.
        if splitting.connections == 1 {
            return Connection(gap.lowerBound, gap.upperBound == length ? nil : gap.upperBound)
        }
        return Connection(gap.lowerBound, min(gap.upperBound, gap.lowerBound + Splitting.window))
    }

    /// Missing, and nobody's task yet.
    private func freeGap(from place: UInt64, _ length: UInt64) -> Range<UInt64>? {
        var taken = part.present
        for connection in connections {
            taken.insert(connection.position..<max(connection.position, connection.limit ?? length))
        }
        return taken.gap(from: place, limit: length)
    }

    private func open(_ connection: Connection) throws {
        // Bytes that nothing tells from those of another file can't be gone on from.
        if part.present.count > 0, part.record.validators.condition == nil {
            try begin(anew: Validators())
            (connection.position, connection.limit) = (0, nil)
        }
        connections.append(connection)
        let (from, to) = (connection.position, connection.limit)
        let isFresh = from == 0 && to == nil && part.present.count == 0
        var conditions: [String] = []
        if !address.isFTP {
            if !hasAnswer, let known, isFresh {
                conditions = known.onlyIfChanged
                connection.isConditional = !conditions.isEmpty
            }
            if !isFresh, let condition = part.record.validators.condition {
                conditions.append("If-Range: \(condition)")
            }
        }
        let request = try WebRequest(
            address, in: web, range: isFresh ? nil : (from, to), conditions: conditions, patience: patience)
        connection.request = request
        request.onHead = { [unowned self, unowned connection] in try accept($0, connection) }
        request.onBody = { [unowned self, unowned connection] in try take($0, connection) }
        request.onEnd = { [self, unowned connection] in try end(connection, $0) }
    }

    private func cancel(allBut kept: Connection? = nil) {
        for connection in connections where connection !== kept { connection.request?.cancel() }
        connections = kept.map { [$0] } ?? []
    }

    // MARK: - Answers

    private static let wasChanged = "the file was changed on the server: beginning again"

    private func accept(_ head: WebRequest.Head, _ connection: Connection) throws -> Bool {
        if address.isFTP { return true }
        if head.status == 206 { return try acceptPart(head, connection) }
        return try head.status == 200 && acceptWhole(head, connection)
    }

    private func acceptWhole(_ head: WebRequest.Head, _ connection: Connection) throws -> Bool {
        let now = head.validators
        // A server may do so now and then; the machine needs just the part.
        if isLazy, now.isSameFile(as: part.record.validators) {
            oddity = "the server sends no parts of the file any more"
            return false
        }
        let asked = connection.position > 0 || connection.limit != nil || part.present.count > 0
        let isSame = part.length == nil || now.isSameFile(as: part.record.validators)
        if head.fields["accept-ranges"]?.lowercased() == "none" { servesRanges = false }
        hasServedRanges = head.fields["accept-ranges"]?.lowercased() == "bytes"
        if asked {
            // Or it is several servers, each with tags of its own: then one connection at a time.
            servesRanges = false
            // What others bring can't be trusted any more, or need not be brought twice.
            cancel(allBut: connection)
            note(isSame ? "the server can't go on in the middle of a file: beginning again" : Transfer.wasChanged)
        }
        (connection.position, connection.limit) = (0, nil)
        try begin(anew: now)
        hasAnswer = true
        splitting = Splitting()
        if canSplit { watchRate() }
        return true
    }

    private func acceptPart(_ head: WebRequest.Head, _ connection: Connection) throws -> Bool {
        let now = head.validators
        let isSame = now.isSameFile(as: part.record.validators)
        guard let range = head.contentRange?.range, range.lowerBound == connection.position,
            isSame || part.present.count == 0 && connections.count == 1
        else {
            note(
                isSame ? "the server answers with another range than asked for: beginning again" : Transfer.wasChanged)
            servesRanges = false
            cancel(allBut: connection)
            try begin(anew: Validators())
            connection.position = 0
            return false
        }
        hasServedRanges = true
        if part.present.count == 0 {
            try part.reset(now)
        } else if part.length == nil, let total = now.length {
            part.record.validators.length = total
        }
        if !hasAnswer, canSplit { watchRate() }
        hasAnswer = true
        return true
    }

    private func take(_ bytes: UnsafeRawBufferPointer, _ connection: Connection) throws -> Bool {
        guard connections.contains(where: { $0 === connection }) else { return false }
        var count = bytes.count
        let limit = connection.limit ?? part.length
        if let limit { count = Int(min(UInt64(count), limit - min(limit, connection.position))) }
        if count > 0 {
            do throws(Failure) {
                try part.write(UnsafeRawBufferPointer(rebasing: bytes[..<count]), at: connection.position)
            } catch {
                // A machine runs on it, and can wait for room.
                guard isLazy, error.kind == .noSpace else { throw error }
                oddity = "\(error.cause) for \(error.subject)"
                return false
            }
            connection.position += UInt64(count)
            if part.present.count > most {
                most = part.present.count
                if failures > 0 { worker.tell(.fetching, part, always: true) }
                failures = 0
            }
            worker.meter.add(count)
            saveSoon()
            try onBytes()
            worker.tell(.fetching, part)
        }
        // The rest is another connection's.
        return count == bytes.count && limit.map { connection.position < $0 || $0 == part.length } ?? true
    }

    private func end(_ connection: Connection, _ failure: WebFailure?) throws {
        guard connections.contains(where: { $0 === connection }), outcome == nil else { return }
        connections.removeAll { $0 === connection }
        // FTP's numbers are others.
        let status = address.isFTP ? 0 : connection.request?.head.status ?? 0
        if status == 304, connection.isConditional { return try finish(.notModified) }
        if failure == nil, status == 416 {
            try begin(anew: Validators())
            return try recover(from: WebFailure(words: "the server has less of it than it announced", isPassing: true))
        }
        if let failure { return try recover(from: failure) }
        if ![0, 200, 206].contains(status) { return try recover(from: WebFailure(status: status)) }
        if hasAnswer, part.length == nil, connection.limit == nil {
            // An answer without a length is over when it is over.
            part.record.validators.length = connection.position
            part.record.isEndUnsure = connection.request?.head.hasEnd == false ? true : nil
        }
        let goal = connection.limit ?? part.length ?? connection.position
        if hasAnswer, connection.position < goal {
            defer { oddity = nil }
            return try recover(from: WebFailure(words: oddity ?? "it came shorter than announced", isPassing: true))
        }
        if !hasAnswer {
            failures += 1
            if failures > 3 {
                return try recover(from: WebFailure(words: "the server's answers make no sense", isPassing: false))
            }
        }
        try next()
    }

    // MARK: - Failures

    private static let leastPause = 0.25

    private func recover(from failure: WebFailure) throws {
        if outcome != nil { return }
        // The others of this moment have met the same fate, or can go on by themselves.
        if !connections.isEmpty, failure.isPassing {
            splitting.connections = max(1, min(splitting.connections, connections.count))
            if !isLazy { return }
        }
        failures += 1
        // The cache can do without the server.
        let tries = known == nil || hasAnswer ? settings.attempts : min(settings.attempts, 2)
        // A machine waits, whatever the server says at the moment.
        let mustGoOn = isLazy && hasAnswer
        guard failure.isPassing && failures < tries || mustGoOn else {
            let asked = failures > 1 ? " (asked \(failures) times)" : ""
            return try finish(
                .failed(
                    Failure(.fetch, "fetch", address.shown, failure.words + asked, remedy: failure.remedy),
                    isAbsence: failure.isAbsence))
        }
        let asked = settings.sleep + settings.tick * Double(min(failures, 60) - 1)
        // Who goes on for ever makes a pause.
        let wait = mustGoOn ? max(asked, Transfer.leastPause) : asked
        let words = "\(failure.words); trying again in \(Int(wait.rounded(.up))) s"
        worker.tell(.stalled, part, always: true)
        note(mustGoOn ? words : words + " (\(failures + 1) of \(tries))")
        try save()
        loop.cancel(retry)
        retry = loop.after(.seconds(wait)) { [unowned self] in
            retry = nil
            try start()
        }
    }

    private func finish(_ outcome: Outcome) throws {
        if self.outcome != nil { return }
        self.outcome = outcome
        loop.cancel(splitTimer)
        cancel()
        try save()
    }

    private func note(_ text: String) { say(.note("\(address.shown): \(text)")) }

    /// Also when nothing more comes.
    private func saveSoon() {
        if saving != nil { return }
        saving = loop.after(.milliseconds(20)) { [self] in
            saving = nil
            if part.unsaved > 0 { try save() }
        }
    }

    /// What there is no room to record is fetched twice at worst, by a machine that has time.
    private func save() throws(Failure) {
        do throws(Failure) { try part.save() } catch { if !isLazy || error.kind != .noSpace { throw error } }
    }

    // MARK: - More connections

    private var canSplit: Bool {
        servesRanges && !isLazy && !address.isFTP && part.length != nil && part.record.validators.condition != nil
    }

    private func watchRate() {
        loop.cancel(splitTimer)
        splitting.mark(part.present.count)
        splitTimer = loop.after(Splitting.interval) { [unowned self] in
            guard canSplit, retry == nil, let length = part.length else { return }
            let left = length - min(length, part.present.count)
            if part.present.count > 0, splitting.decide(part.present.count, left: left), splitting.connections > 1 {
                // The first connection was to bring everything.
                for connection in connections where connection.limit == nil {
                    connection.limit = min(length, connection.position + Splitting.window)
                }
                try next()
            }
            if left > 0 { watchRate() }
        }
    }

    // MARK: - On demand

    /// The sizes of what is asked for when nobody waits, and when somebody does: small enough that a slow link is soon
    /// free again, growing while the reading goes straight on.
    private static let smallest: UInt64 = 128 << 10
    private static let largest: UInt64 = 4 << 20
    private var reach = Transfer.smallest
    /// Who reads again within this time is busy; then the rest is asked for so often and no more.
    private static let quiet = Duration.milliseconds(300)
    private static let trickle = Duration.seconds(1)
    private var lastAsked = ContinuousClock.now - Transfer.quiet
    private var lastUnasked = ContinuousClock.now - Transfer.trickle
    private var quietTimer: EventLoop.Timer?

    /// Somebody waits for these bytes.
    func want(_ range: Range<UInt64>) throws {
        lastAsked = .now
        wanted.append(range)
        try next()
    }

    private func nextLazyConnection(_ length: UInt64) -> Connection? {
        wanted.removeAll { part.present.contains($0) }
        for range in wanted {
            // Whole pages, and what will probably be read next.
            let start = range.lowerBound & ~0xffff
            guard let gap = freeGap(from: start, length), gap.lowerBound < range.upperBound else { continue }
            let goesOn = lastWanted?.upperBound == gap.lowerBound
            reach = goesOn ? min(reach * 2, Transfer.largest) : Transfer.smallest
            let end = min(gap.upperBound, max(gap.lowerBound + reach, (range.upperBound + 0xffff) & ~0xffff))
            lastWanted = gap.lowerBound..<end
            return Connection(gap.lowerBound, end, isWanted: true)
        }
        // The rest comes when nobody waits, on two connections, so that there is room for who comes; and slowly as long
        // as somebody asks again and again.
        if connections.contains(where: \.isWanted) || connections.count > 1 { return nil }
        let now = ContinuousClock.now
        if now - lastAsked < Transfer.quiet, now - lastUnasked < Transfer.trickle {
            if quietTimer == nil {
                quietTimer = loop.after(Transfer.quiet) { [unowned self] in
                    quietTimer = nil
                    try next()
                }
            }
            return nil
        }
        lastUnasked = now
        // About a quarter of a second's worth.
        let much = min(Transfer.largest * 2, max(Transfer.smallest, worker.meter.rate / 4 & ~0xffff))
        return freeGap(from: 0, length).map { Connection($0.lowerBound, min($0.upperBound, $0.lowerBound + much)) }
    }
}

/// Whether more connections help: they are tried, and kept if more comes with them.
private struct Splitting {
    static let window: UInt64 = 16 << 20
    static let interval = Duration.seconds(1)
    private static let most = 4
    /// What is not worth a second connection.
    private static let least: UInt64 = 64 << 20

    var connections = 1
    private var before: (count: UInt64, time: ContinuousClock.Instant)?
    private var best: Double?
    private var rounds = 0
    private var isSettled = false

    mutating func mark(_ count: UInt64) { before = (count, .now) }

    /// Looks at what came since the mark; whether there is to be another number of connections.
    mutating func decide(_ count: UInt64, left: UInt64) -> Bool {
        guard let before, !isSettled else { return false }
        rounds += 1
        // The first second is the time in which a connection finds its speed; a new one needs it as well.
        if rounds % 2 == 1 { return false }
        let seconds = (ContinuousClock.now - before.time) / .seconds(1)
        let rate = Double(count - min(count, before.count)) / max(seconds, 0.001)
        if let best, rate < best * 1.15 {
            isSettled = true
            connections -= 1
            return true
        }
        best = rate
        guard connections < Splitting.most, left > Splitting.least else {
            isSettled = true
            return false
        }
        connections += 1
        return true
    }
}
