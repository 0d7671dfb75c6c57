import Model
import System
import Values

extension Effect.HugepageAdded: Performable {
    package func undo() throws(Failure) {
        let path = "/proc/sys/vm/nr_hugepages"
        guard let count = FileTree().number(path), count > 0 else { return }
        try Failure.naming(.cleanup, "write", path, try Files.set(path, "\(count - 1)")) { _ in
            "sysctl vm.nr_hugepages=\(count - 1)"
        }
    }
}
