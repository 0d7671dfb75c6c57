import CLinux
import Glibc
import Model
import System
import Values

extension Effect.Remount: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        // Where only this mount is for reading, it alone is made writable; else the file system, for all who mounted it.
        if clinux_remount(path, 1, 1) == 0, access(path, W_OK) == 0 { return }
        try Failure.naming(
            .host, "mount anew, to write to it,", path, try Errno.check { clinux_remount(path, 1, 0) }
        ) { _ in "in a container: docker run --privileged, or -v /sys:/sys" }
    }

    package func undo() {
        // Another machine may need it to give its NICs back.
        let devices = "/sys/bus/pci/devices"
        let isNeeded = Files.names(devices).contains { NICMark.of("\(devices)/\($0)") != nil }
        if !isNeeded { _ = clinux_remount(path, 0, 1) }
    }
}
