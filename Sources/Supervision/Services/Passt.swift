import CLinux
import Glibc
import Planning
import System
import Values

/// passt is tried before it is planned with: containers may forbid what it shuts itself in with.
package enum Passt {
    private static let patience = Duration.seconds(2)

    /// As the one client that it serves, one sees how it ends.
    package static func works(_ program: String, as user: User?, loop: EventLoop) throws -> Bool {
        var template = Array("/tmp/snabbvm-passt-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { return false }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { Files.removeTree(folder) }
        if let user { chown(folder, user.uid, user.gid) }
        let socket = "\(folder)/socket"
        let silent = Log(verbosity: .quiet, json: false)
        let passt = Service(.passt(program, [], socket: socket, user), loop: loop, ledger: nil, log: silent)
        guard (try? passt.start()) != nil else { return false }
        try loop.run(until: passt.isSettled)
        // To end well is not enough: it must have listened before.
        guard passt.isReady else { return false }
        visit(socket, passt, loop)
        let limit = loop.after(patience) { passt.end() }
        defer { loop.cancel(limit) }
        try loop.run { passt.isGone }
        return passt.status == .code(0)
    }

    /// Comes and goes; again if it came between the socket's name and its being listened at.
    private static func visit(_ socket: String, _ passt: Service, _ loop: EventLoop) {
        let raw = clinux_connect(socket)
        if raw >= 0 {
            close(raw)
        } else if !passt.isGone {
            loop.after(.milliseconds(2)) { visit(socket, passt, loop) }
        }
    }
}
