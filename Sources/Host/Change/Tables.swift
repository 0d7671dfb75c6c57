import Model
import System
import Values

extension Effect.Tables: Performable {
    package func records(_ folders: MachinePaths) -> [Effect]? {
        [.tables(name: name, families: families, namespace: HostFacts.Network.currentNamespace)]
    }

    package func make(_ maker: inout EffectMaker) throws {
        let command = Command(program: program ?? "nft", arguments: ["-f", "-"])
        let job = try Job(command, in: maker.loop, limit: .seconds(30), kind: .network, input: text)
        try job.finish(.network, "make nftables' table", name)
    }

    package func undo() throws(Failure) {
        guard try isHere(namespace, name) else { return }
        // Deleting what is not there would be refused.
        let lines = families.flatMap { ["table \($0) \(name)", "delete table \($0) \(name)"] }
        try NetworkTools.run("nft", ["-f", "-"], lines, "remove table", name)
    }
}
