import Glibc
import Model
import Supervision
import System
import Values

/// `snabbvm ssh`: waits until the guest's SSH server answers, and becomes ssh.
enum SSHCommand {
    private static let usualAttempts = 60
    /// What the first try has.
    private static let firstAllowance = 1.0

    static func perform(_ arguments: Arguments, _ log: Log) throws -> Int32 {
        guard let ssh = Files.findProgram("ssh") else {
            throw Failure(
                .host, "log in to", "machine \(arguments.name)", "ssh is not on PATH",
                remedy: "apt-get install openssh-client")
        }
        let client = try ControlClient(arguments)
        let place = try find(client, arguments, log)
        try Command(program: ssh, arguments: words(place, client.folders, arguments)).become()
    }

    private typealias Place = (address: SocketAddress, knownHosts: String)

    /// A guest that is booting answers sooner or later: how long that is worth waiting for the user says.
    private static func find(_ client: ControlClient, _ arguments: Arguments, _ log: Log) throws(Failure) -> Place {
        let attempts = arguments.attempts ?? usualAttempts
        let name = client.folders.name
        var why = ""
        for attempt in 0..<attempts {
            // Asked anew each time: its address may become known, and it may end.
            let words = try client.ask(.ssh)
            let answer = try? words.decode(ControlAnswer.SSH.self)
            if let problem = answer?.error { throw Failure(.network, "log in to", "machine \(name)", problem) }
            if let host = answer?.host, let port = answer?.port {
                let address = SocketAddress(host: host, port: port)
                let allowed = firstAllowance + Double(attempt) * arguments.web.tick
                guard let refusal = refusal(of: address, within: allowed) else {
                    return (address, answer?.knownHosts ?? "")
                }
                why = refusal
            } else {
                why = answer?.waiting ?? "its launcher does not say where it is"
            }
            if attempt == 0, attempts > 1 { log.note("waiting for the guest to let one in: \(why)") }
            log.verbose("try \(attempt + 1) of \(attempts): \(why)")
            if attempt + 1 < attempts { poll(nil, 0, Int32(clamping: Int(arguments.web.sleep * 1000))) }
        }
        throw Failure(
            .network, "log in to", "machine \(name)", "\(why), after \(attempts) \(attempts == 1 ? "try" : "tries")",
            remedy: "see that its guest runs an SSH server, or give it more time with --attempts, --sleep and --tick")
    }

    /// nil when an SSH server is there.
    private static func refusal(of address: SocketAddress, within seconds: Double) -> String? {
        do throws(Errno) {
            let greeting = try address.greeting(within: seconds)
            if greeting.starts(with: Array("SSH-".utf8)) { return nil }
            return greeting.isEmpty ? "\(address) closes the connection" : "\(address) is no SSH server"
        } catch {
            return "\(address): \(error)"
        }
    }

    /// Whom it met is remembered as long as the machine lives: the next one of this address is another.
    private static func words(_ place: Place, _ folders: MachinePaths, _ arguments: Arguments) -> [String] {
        let options = [
            "UserKnownHostsFile=\"\(place.knownHosts)\"", "HostKeyAlias=snabbvm-\(folders.name)",
            "StrictHostKeyChecking=accept-new", "UpdateHostKeys=no", "LogLevel=ERROR",
        ]
        var words = options.flatMap { ["-o", $0] } + ["-p", "\(place.address.port)"]
        if let login = arguments.login { words += ["-l", login] }
        if let identity = arguments.identity { words += ["-i", identity] }
        return words + ["--", place.address.host] + arguments.command
    }
}
