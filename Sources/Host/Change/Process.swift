import CLinux
import Glibc
import Model
import System
import Values

extension Effect.Process: Performable {
    /// How long the kernel gets to bury a killed process, whose memory it must give back first.
    private static let patience: Int32 = 20_000

    package func undo() throws(Failure) {
        let raw = clinux_pidfd_open(identity.pid)
        if raw < 0 { return }
        let process = Descriptor(raw)
        // Looked at after the pidfd is open: so it can't become another process's in between.
        guard identity.isAlive else { return }
        clinux_pidfd_send_signal(process.raw, SIGKILL)
        var ended = pollfd(fd: process.raw, events: Int16(POLLIN), revents: 0)
        if poll(&ended, 1, Self.patience) == 0 {
            throw Failure(.cleanup, "end process", "\(identity.pid)", "it was killed and does not go away")
        }
    }
}
