import Testing

/// The error of this type that is thrown, or nil and a failed test. Before Swift 6.1 the runner's own #expect does not
/// return it.
func expectThrown<Thrown: Error>(
    _ type: Thrown.Type, sourceLocation: SourceLocation = #_sourceLocation, by body: () throws -> some Any
) -> Thrown? {
    var thrown: Thrown?
    #expect(throws: type, sourceLocation: sourceLocation) {
        do { _ = try body() } catch {
            thrown = error as? Thrown
            throw error
        }
    }
    return thrown
}
