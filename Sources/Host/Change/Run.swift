import Model

extension Effect.Run: Performable {
    package func make(_ maker: inout EffectMaker) throws {
        maker.begun.append(try BegunDisk(nil, [command], maker.loop))
    }
}
