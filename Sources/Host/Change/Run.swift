import Model

extension Effect.Run: Performable {
    package func make(_ maker: inout EffectMaker) throws { try maker.begin([command], making: "the disk") }
}
