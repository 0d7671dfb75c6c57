extension Effect.Run: Performable {
    func make(_ maker: inout EffectMaker) throws { maker.begun.append(try BegunDisk(nil, [command], maker.loop)) }
}
