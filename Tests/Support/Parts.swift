import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import System
@testable import Values

/// The real parts that tests need, each with the words for when it is missing.
enum Parts {
    static let searchPath = ProcessInfo.processInfo.environment["PATH"] ?? ""

    static func has(_ programs: String...) -> Bool {
        programs.allSatisfy { Files.findProgram($0, path: searchPath) != nil }
    }

    /// The program under test stands beside the test runner. Where a shell started that one in the background, it ignores
    /// SIGINT, which its children are not to inherit.
    static let snabbvm: String = {
        signal(SIGINT, SIG_DFL)
        let words = try! Files.resolved("/proc/self/exe").split(separator: "/").dropLast()
        return words.map { "/\($0)" }.joined() + "/snabbvm"
    }()

    /// The folder with this package.
    static let folder = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()

    static let shareFolder = folder + "/build/share/snabbvm"
    static let demo = shareFolder + "/demo.iso"
    static let hasDemo =
        FileManager.default.fileExists(atPath: demo) && has("qemu-system-x86_64", "qemu-img", "tmux", "xorriso")
    static let isRoot = geteuid() == 0

    static func path(of program: String) -> String { Files.findProgram(program, path: searchPath) ?? program }
}

/// A folder for one test, gone with it.
final class Scratch {
    let path: String

    init() {
        var template = Array("/tmp/snabbvm-test-XXXXXX".utf8CString)
        path = String(cString: mkdtemp(&template))
        // QEMU's ordinary user must be able to pass.
        chmod(path, 0o755)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String, _ text: String) -> String { file(name, Array(text.utf8)) }

    @discardableResult
    func file(_ name: String, _ bytes: [UInt8]) -> String {
        let path = "\(self.path)/\(name)"
        let folder = (path as NSString).deletingLastPathComponent
        try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        _ = FileManager.default.createFile(atPath: path, contents: Data(bytes))
        return path
    }

    func link(_ name: String, to target: String) {
        let path = "\(self.path)/\(name)"
        let folder = (path as NSString).deletingLastPathComponent
        try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        symlink(target, path)
    }

    func folder(_ name: String) -> String {
        let path = "\(self.path)/\(name)"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    var tree: FileTree { FileTree(root: path) }
}

struct Outcome {
    var code: Int32
    var output: String
    var errors: String
}

/// Starts a program; not by Foundation's Process, which waits until every descendant has ended, and a tmux server does not.
func spawn(
    _ program: String, _ arguments: [String], environment: [String: String], input: Int32? = nil, output: OutputFile,
    errors: OutputFile
) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    if let input {
        posix_spawn_file_actions_adddup2(&actions, input, 0)
    } else {
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    }
    posix_spawn_file_actions_adddup2(&actions, output.handle.fileDescriptor, 1)
    posix_spawn_file_actions_adddup2(&actions, errors.handle.fileDescriptor, 2)
    // The runner's threads hold all signals back, and its terminal is not for the program to ask for passwords on.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    let newSession: Int32 = 0x80  // POSIX_SPAWN_SETSID, which Swift does not see
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | newSession))
    let path = program.hasPrefix("/") ? program : Parts.path(of: program)
    let words = CStrings([path] + arguments)
    let variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let settings = CStrings(variables.map { "\($0.key)=\($0.value)" })
    var pid: pid_t = 0
    let error = posix_spawn(&pid, path, &actions, &attributes, words.pointer, settings.pointer)
    if error != 0 { throw Errno(code: error) }
    return pid
}

/// Runs a program to its end.
@discardableResult
func run(
    _ program: String, _ arguments: [String], environment: [String: String] = [:], in folder: String? = nil
) throws
    -> Outcome
{
    let (output, errors) = (temporaryFile(), temporaryFile())
    let before = Files.currentFolder
    if let folder { chdir(folder) }
    defer { chdir(before) }
    let pid = try spawn(program, arguments, environment: environment, output: output, errors: errors)
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    let code = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
    return Outcome(code: code, output: output.text, errors: errors.text)
}

/// A file without a name, for what a program prints.
struct OutputFile {
    let handle: FileHandle
    var text: String {
        let size = Int(lseek(handle.fileDescriptor, 0, SEEK_END))
        var bytes = [UInt8](repeating: 0, count: size)
        pread(handle.fileDescriptor, &bytes, size, 0)
        return String(decoding: bytes, as: UTF8.self)
    }
}

func temporaryFile() -> OutputFile {
    var template = Array("/tmp/snabbvm-out-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    unlink(template)
    return OutputFile(handle: FileHandle(fileDescriptor: descriptor, closeOnDealloc: true))
}

/// Looks until it is so. The limit is there so that a failing test ends; a passing one never waits for it.
func eventually(within seconds: Double = 120, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = Date().addingTimeInterval(seconds)
    while Date() < end {
        if try condition() { return true }
        usleep(50_000)
    }
    return try condition()
}

/// A TCP port above VNC's first one that nothing listens on.
func freePort() -> Int {
    let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(server) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            _ = bind(server, $0, size)
            _ = getsockname(server, $0, &size)
        }
    }
    return Int(UInt16(bigEndian: address.sin_port))
}
