import Glibc
import Model
import System
import Values

extension Effect.Bridged: Performable {
    package func undo() throws(Failure) {
        if try isHere(namespace, state.name) { try state.giveBack(from: bridge) }
    }
}

extension InterfaceState {
    /// From when the interface is in the bridge until it is out of it, and never else, it may lack something: all is there
    /// before it leaves. An interface that is not in it is another of the same name, or was never changed.
    func giveBack(from bridge: String) throws(Failure) {
        if if_nametoindex(bridge) == 0 { return }
        let output = try NetworkTools.run(
            "ip", ["-json", "link", "show", "dev", name], [], "look at", name, isChecked: false)
        if (try? JSON(parsing: output))?.array?.first?["master"]?.string == bridge {
            // What is there already is no obstacle, nor what is gone; what is missing afterwards is seen.
            try NetworkTools.run(
                "ip", ["-force", "-batch", "-"], returning(from: bridge), "give back", name, isChecked: false)
            try checkReturned()
        } else {
            try NetworkTools.run("ip", ["-batch", "-"], ["link delete dev \(bridge)"], "remove", bridge)
        }
    }

    private func checkReturned() throws(Failure) {
        let ask = { (words: [String]) throws(Failure) -> JSON in
            let output = try NetworkTools.run("ip", words, [], "look at", name)
            return (try? JSON(parsing: output)) ?? []
        }
        let now = HostFacts.Network(
            FileTree(), addresses: try ask(["-json", "-details", "address", "show", "dev", name]),
            routes: try ask(["-json", "route", "show", "table", "all"]))
        let has = now.link(name)?.addresses.map(\.address) ?? []
        for address in addresses where !has.contains(address.address) {
            throw missing("address", address.words.first ?? "")
        }
        for route in routes
        where !now.routes.contains(where: { $0.device == name && $0.destination == route.destination }) {
            throw missing("route", route.words?.joined(separator: " ") ?? "")
        }
    }

    private func missing(_ kind: String, _ words: String) -> Failure {
        Failure(
            .cleanup, "give back", name, "its \(kind) \(words) could not be put back",
            remedy: "ip \(kind) add \(words) dev \(name)")
    }
}
