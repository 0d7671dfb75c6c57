import CLinux
import Glibc

/// How a process ended.
package enum ExitStatus: Equatable, CustomStringConvertible {
    case code(Int32)
    case signal(Int32)

    init(wait status: Int32) {
        self = status & 0x7f == 0 ? .code(status >> 8 & 0xff) : .signal(status & 0x7f)
    }

    package var description: String {
        switch self {
        case .code(let code): "exit code \(code)"
        case .signal(let signal): "signal \(signal) (\(String(cString: strsignal(signal))))"
        }
    }
}

extension ContinuousClock.Instant {
    /// The time until then as `poll` takes it, in milliseconds, rounded up.
    package var untilThen: Int32 {
        let left = (self - .now).components
        let milliseconds = left.seconds * 1000 + (left.attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
        return Int32(clamping: max(0, milliseconds))
    }
}

/// The one `poll` loop of the launcher's one thread: descriptors, timers, signals and children, each with what to do when
/// it has something to say. What a handler throws ends the loop.
package final class EventLoop {
    package typealias Handler = () throws -> Void

    package struct Events: OptionSet {
        package let rawValue: Int16

        package init(rawValue: Int16) { self.rawValue = rawValue }

        package static let readable = Events(rawValue: Int16(POLLIN))
        package static let writable = Events(rawValue: Int16(POLLOUT))
        package static let hangup = Events(rawValue: Int16(POLLHUP | POLLERR | POLLNVAL))
    }

    package struct Timer: Hashable {
        fileprivate let number: Int
    }

    /// What to do about a signal other than SIGCHLD.
    package var onSignal: (Int32) throws -> Void = { _ in }

    /// A descriptor's number says little: it can be closed, and given to another, between `poll` and the handler.
    private var watches: [Int32: (identity: Int, events: Events, handler: (Events) throws -> Void)] = [:]
    private var timers: [Timer: (deadline: ContinuousClock.Instant, handler: Handler)] = [:]
    /// How many watches and timers there have been.
    private var count = 0
    /// A child is known until its end was told: by its pidfd, or by SIGCHLD, whichever comes first.
    private var children: [pid_t: (pidfd: HeldDescriptor?, handler: (ExitStatus) throws -> Void)] = [:]
    private let signals: Descriptor

    static let handledSignals = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD]

    /// From here on these signals wait until the loop takes them: the first thing that the program does. Or they don't
    /// any more, for what may be interrupted like any other program.
    package static func holdSignals(_ areHeld: Bool = true) {
        var set = signalSet(handledSignals + [SIGWINCH])
        sigprocmask(areHeld ? SIG_BLOCK : SIG_UNBLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
    }

    private static func signalSet(_ signals: [Int32]) -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        return set
    }

    package init(alsoHandling extra: [Int32] = []) throws(Errno) {
        var set = EventLoop.signalSet(EventLoop.handledSignals + extra)
        signals = Descriptor(try Errno.check { clinux_signalfd(&set) })
    }

    package func watch(_ descriptor: Int32, for events: Events, handler: @escaping (Events) throws -> Void) {
        count += 1
        watches[descriptor] = (count, events, handler)
    }

    package func change(_ descriptor: Int32, to events: Events) { watches[descriptor]?.events = events }

    package func unwatch(_ descriptor: Int32) { watches[descriptor] = nil }

    @discardableResult
    package func after(_ delay: Duration, do handler: @escaping Handler) -> Timer {
        count += 1
        let timer = Timer(number: count)
        timers[timer] = (.now + delay, handler)
        return timer
    }

    package func cancel(_ timer: Timer?) {
        if let timer { timers[timer] = nil }
    }

    /// Told by the process's own descriptor, whoever's child it was at first.
    package func onExit(of pid: pid_t, do handler: @escaping (ExitStatus) throws -> Void) {
        let raw = clinux_pidfd_open(pid)
        // Without one it is gone already, and its end is to be collected.
        children[pid] = (raw < 0 ? nil : HeldDescriptor(Descriptor(raw)), handler)
        if raw < 0 {
            after(.zero) { [unowned self] in try collect(pid) }
        } else {
            watch(raw, for: .readable) { [unowned self] _ in try collect(pid) }
        }
    }

    private func collect(_ pid: pid_t) throws {
        var status: Int32 = 0
        let collected = waitpid(pid, &status, WNOHANG) == pid
        try tellEnd(of: pid, collected ? ExitStatus(wait: status) : .code(0))
    }

    /// From here on the pid can be another child's.
    private func tellEnd(of pid: pid_t, _ status: ExitStatus) throws {
        guard let child = children.removeValue(forKey: pid) else { return }
        if let pidfd = child.pidfd { unwatch(pidfd.raw) }
        try child.handler(status)
    }

    package func run(until done: () -> Bool) throws {
        while !done() { try turn() }
    }

    /// Kills those that still run, and waits for their end.
    package func endChildren() throws {
        for pid in children.keys { kill(pid, SIGKILL) }
        try run { children.isEmpty }
    }

    /// Takes what has already come in, without waiting.
    package func drain() throws { try turn(patience: 0) }

    private func turn(patience: Int32? = nil) throws {
        let watched = watches.map { (descriptor: $0.key, watch: $0.value) }
        var polled = watched.map { pollfd(fd: $0.descriptor, events: $0.watch.events.rawValue, revents: 0) }
        polled.append(pollfd(fd: signals.raw, events: Int16(POLLIN), revents: 0))
        let untilNextTimer = timers.values.map(\.deadline).min()?.untilThen ?? -1
        let ready = poll(&polled, nfds_t(polled.count), patience ?? untilNextTimer)
        if ready < 0, Errno.last != .interrupted { throw Errno.last }
        if ready > 0 {
            if polled.removeLast().revents != 0 { try takeSignals() }
            for (one, (descriptor, before)) in zip(polled, watched) where one.revents != 0 {
                // A handler before this one may have ended the watch, and begun another of the same number.
                guard let watch = watches[descriptor], watch.identity == before.identity else { continue }
                try watch.handler(Events(rawValue: one.revents))
            }
        }
        let now = ContinuousClock.now
        for (timer, due) in timers.sorted(by: { $0.value.deadline < $1.value.deadline }) where due.deadline <= now {
            if timers.removeValue(forKey: timer) != nil { try due.handler() }
        }
    }

    private func takeSignals() throws {
        while let bytes = try? signals.read(atMost: MemoryLayout<signalfd_siginfo>.size), !bytes.isEmpty {
            let number = bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
            if Int32(number) == SIGCHLD { try collectChildren() } else { try onSignal(Int32(number)) }
        }
    }

    /// Those that a container's first process inherits from others; and our own, when they come to light here first.
    private func collectChildren() throws {
        while true {
            var status: Int32 = 0
            let pid = waitpid(-1, &status, WNOHANG)
            if pid <= 0 { return }
            try tellEnd(of: pid, ExitStatus(wait: status))
        }
    }
}
