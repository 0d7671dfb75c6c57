import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import System
@testable import Values

/// A cable between two network namespaces: the machine's side, where snabbvm runs, and a peer.
final class Wire {
    let host: String
    let peer: String
    static let guestAddress = "10.77.0.2"

    /// Where the peer sees the frames.
    let peerInterface: String

    /// With a tap the machine's side is itself the peer.
    init(mtu: Int = 1500, tap: String? = nil) throws {
        let name = "sv\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        host = "\(name)-h"
        peer = tap == nil ? "\(name)-p" : host
        peerInterface = tap ?? "wire1"
        for namespace in Set([host, peer]) {
            try Wire.ip("netns", "add", namespace)
            // Else the kernel has things to say on each interface.
            for which in ["all", "default"] {
                let setting = "net.ipv6.conf.\(which).disable_ipv6=1"
                _ = try run("ip", ["netns", "exec", namespace, "sysctl", "-qw", setting])
            }
            try Wire.ip("-n", namespace, "link", "set", "lo", "up")
        }
        if let tap {
            try Wire.ip("-n", host, "tuntap", "add", tap, "mode", "tap")
        } else {
            let words = ["link", "add", "wire0", "mtu", "\(mtu)", "type", "veth", "peer", "name", "wire1"]
            try Wire.ip(["-n", host] + words + ["netns", peer])
        }
        try Wire.ip("-n", peer, "link", "set", peerInterface, "mtu", "\(mtu)", "up")
        try Wire.ip("-n", peer, "address", "add", "10.77.0.1/24", "dev", peerInterface)
    }

    deinit {
        for namespace in Set([host, peer]) { _ = try? run("ip", ["netns", "delete", namespace]) }
    }

    static func ip(_ words: String...) throws { try ip(words) }

    private static func ip(_ words: [String]) throws {
        let outcome = try run("ip", words)
        if outcome.code != 0 { throw Failure(.unexpected, "run ip", words.joined(separator: " "), outcome.errors) }
    }

    /// For a program on the machine's side.
    var wrapper: [String] { ["ip", "netns", "exec", host] + inner }
    /// What else is to be around it.
    var inner: [String] = []

    /// Runs a shell command on the peer's side.
    @discardableResult
    func shell(_ command: String) throws -> Outcome {
        try run("ip", ["netns", "exec", peer, "bash", "-c", command])
    }

    @discardableResult
    func hostShell(_ command: String) throws -> Outcome {
        try run("ip", ["netns", "exec", host, "bash", "-c", command])
    }

    func pings(_ options: String = "") throws -> Bool {
        try shell("ping -q -c 1 -W 1 \(options) \(Wire.guestAddress)").code == 0
    }
}
