import CLinux
import Glibc

/// passt: the machine's network by ordinary sockets of an ordinary user.
final class Passt {
    private let program: Companion
    private let socket: String
    private let loop: EventLoop
    private var status: ExitStatus?
    private var lastWords = ""
    /// It is gone, and the guest's network with it.
    var onEnd: (_ words: String) -> Void = { _ in }
    var onLine: (String) -> Void {
        get { program.onLine }
        set { program.onLine = newValue }
    }

    init(_ command: Command, socket: String, loop: EventLoop) {
        self.socket = socket
        self.loop = loop
        program = Companion(command, name: "passt", loop: loop)
        program.onEnd = { [unowned self] in
            (status, lastWords) = ($0, $1)
            onEnd($1)
        }
    }

    /// QEMU gives up if nobody listens, so it comes second. Whatever passt says is a reason to look.
    func start(recording ledger: Ledger?) throws {
        try program.start(recording: ledger)
        try waitPatiently { status != nil || access(socket, F_OK) == 0 }
        if status == nil { return }
        throw Failure(.network, "start", "passt", lastWords, remedy: "--user-net slirp does without it")
    }

    private func waitPatiently(until done: () -> Bool) throws {
        let limit = loop.after(Passt.patience) { [weak self] in self?.program.kill() }
        defer { loop.cancel(limit) }
        try loop.run(until: done)
    }

    func end() throws {
        onEnd = { _ in }
        try program.end()
    }

    /// Whether it can shut itself in as it wants to, which containers may forbid: as the one client that it serves, one
    /// sees how it ends.
    static func works(_ program: String, as user: User?, loop: EventLoop) -> Bool {
        var template = Array("/tmp/snabbvm-passt-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { return false }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { Files.removeTree(folder) }
        if let user { chown(folder, user.uid, user.gid) }
        let socket = "\(folder)/socket"
        let passt = Passt(Passt.command(program, [], socket, user), socket: socket, loop: loop)
        guard (try? passt.start(recording: nil)) != nil else { return false }
        passt.visit()
        try? passt.waitPatiently { passt.status != nil }
        return passt.status == .code(0)
    }

    /// Comes and goes; again if it came between the socket's name and its being listened at.
    private func visit() {
        let raw = clinux_connect(socket)
        if raw >= 0 {
            close(raw)
        } else if status == nil {
            loop.after(.milliseconds(2)) { [weak self] in self?.visit() }
        }
    }

    private static let patience = Duration.seconds(2)

    static func command(_ program: String, _ options: [String], _ socket: String, _ user: User?) -> Command {
        // As root it would change its user itself, and no longer be bound to its parent's life.
        Command(
            program: program, arguments: ["--foreground", "--stderr", "--one-off", "--socket", socket] + options,
            user: user)
    }
}
