import Model
import System
import Values

extension HostFacts.Topology {
    package init(_ tree: FileTree) {
        let status = (tree.text("/proc/self/status") ?? "").split(separator: "\n")
        let list = status.first { $0.hasPrefix("Cpus_allowed_list:") }?.split(separator: "\t").last.map(String.init)
        self.init(allowed: [], isolated: tree.line("/sys/devices/system/cpu/isolated")?.numberList ?? [])
        // An isolated processor is nobody's until it is asked for; one that is switched off, or not this container's, is not
        // to be had.
        var all = Set(list?.numberList ?? []).union(isolated)
        for file in ["/sys/devices/system/cpu/online", "/sys/fs/cgroup/cpuset.cpus.effective"] {
            if let limit = tree.line(file)?.numberList { all.formIntersection(limit) }
        }
        allowed = all.sorted()
        for name in tree.names("/sys/devices/system/node") {
            guard name.hasPrefix("node"), let number = Int(name.dropFirst(4)),
                let cpus = tree.line("/sys/devices/system/node/\(name)/cpulist")?.numberList
            else { continue }
            nodes[number] = cpus
        }
        for cpu in allowed {
            let path = "/sys/devices/system/cpu/cpu\(cpu)/topology/thread_siblings_list"
            siblings[cpu] = tree.line(path)?.numberList
        }
    }
}
