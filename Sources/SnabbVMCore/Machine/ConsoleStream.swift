/// One stream of the machine (its screen, serial port or the launcher's log) that any number of people look at and type to.
final class ConsoleStream {
    let name: StreamName
    /// What a newcomer is shown first.
    private var history: [UInt8] = []
    private static let historySize = 64 << 10
    private var viewers: [ObjectIdentifier: Outlet] = [:]
    /// Where what is typed goes.
    var onInput: ([UInt8]) -> Void = { _ in }

    init(_ name: StreamName) { self.name = name }

    func received(_ bytes: [UInt8]) {
        history += bytes
        // In one go now and then, rather than a shift at each character.
        if history.count > 2 * ConsoleStream.historySize {
            history.removeFirst(history.count - ConsoleStream.historySize)
        }
        for viewer in viewers.values { viewer.send(bytes) }
    }

    func add(_ viewer: Outlet) {
        viewer.send(history)
        viewers[ObjectIdentifier(viewer)] = viewer
    }

    func remove(_ viewer: Outlet) { viewers[ObjectIdentifier(viewer)] = nil }
}
