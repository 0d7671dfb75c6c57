import System

/// One stream of the machine (its screen, its serial port, the launcher's log, a port) that any number of people look at and type to.
final class ConsoleStream {
    let name: String
    /// What a newcomer is shown first.
    private var history: [UInt8] = []
    private static let historySize = 64 << 10
    private var viewers: [ObjectIdentifier: Outlet] = [:]
    /// Those who typed more than the guest takes at once: what they type from then on waits with them.
    private var paused: [Channel] = []
    /// Where what is typed goes.
    private let input: Channel?

    init(_ name: String, input: Channel? = nil) {
        self.name = name
        self.input = input
        input?.outlet.onEmpty = { [unowned self] in
            for typist in paused { typist.isPaused = false }
            paused = []
        }
    }

    func typed(_ bytes: [UInt8], by typist: Channel) {
        input?.outlet.send(bytes)
        if input?.outlet.isWaiting == true {
            typist.isPaused = true
            paused.append(typist)
        }
    }

    func received(_ bytes: [UInt8]) {
        history += bytes
        // In one go now and then, rather than a shift at each character.
        if history.count > 2 * ConsoleStream.historySize {
            history.removeFirst(history.count - ConsoleStream.historySize)
        }
        for viewer in viewers.values { viewer.send(bytes) }
    }

    /// What stands below all that was received, until something is.
    private var footer: [UInt8] = []
    private static let clearLine: [UInt8] = Array("\r\u{1b}[K".utf8)

    func receivedLine(_ line: String) {
        for viewer in viewers.values where !footer.isEmpty { viewer.send(ConsoleStream.clearLine) }
        received(Array("\(line)\r\n".utf8))
        for viewer in viewers.values { viewer.send(footer) }
    }

    /// A last line that changes in place, and is no part of what a newcomer is shown as history.
    func show(footer text: String) {
        footer = Array(text.utf8)
        for viewer in viewers.values { viewer.send(ConsoleStream.clearLine + footer) }
    }

    var isWatched: Bool { !viewers.isEmpty }

    func add(_ viewer: Outlet) {
        viewer.send(history + footer)
        viewers[ObjectIdentifier(viewer)] = viewer
    }

    func remove(_ viewer: Outlet) {
        viewers[ObjectIdentifier(viewer)] = nil
        paused.removeAll { $0.outlet === viewer }
    }
}
