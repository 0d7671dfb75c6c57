import Foundation
import Testing

@testable import System
@testable import TestSupport
@testable import Values

/// What a stranger on the host can make of a folder's path.
@Suite(.enabled(if: Parts.isRoot, "only root can make folders of others"))
struct StrangersTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        /// A shell's, in an empty folder of root's; `mine` stands for a user's who is not root.
        var setUp: String
        var path = "a/b"
        var isRefused = true
    }

    private static let cases: [Case] = [
        .init(testDescription: "ours", setUp: "mkdir -p a/b", isRefused: false),
        .init(testDescription: "not there yet", setUp: "true", isRefused: false),
        .init(testDescription: "not there, below ours", setUp: "mkdir a", isRefused: false),
        .init(testDescription: "below a sticky one", setUp: "mkdir -p a/b; chmod 1777 a", isRefused: false),
        .init(testDescription: "not there, in a sticky one", setUp: "mkdir a; chmod 1777 a", isRefused: false),
        .init(testDescription: "by a link of ours", setUp: "mkdir -p c/b; ln -s c a", isRefused: false),
        .init(testDescription: "by a full link", setUp: "mkdir -p c/b; ln -s $PWD/c a", isRefused: false),
        .init(testDescription: "by two links", setUp: "mkdir -p d/b; ln -s d c; ln -s c a", isRefused: false),
        .init(
            testDescription: "by a link to above", setUp: "mkdir -p b c; ln -s ../ c/u; ln -s c/u a", isRefused: false),
        .init(testDescription: "by dots", setUp: "mkdir -p a/b c", path: "c/../a/./b", isRefused: false),
        .init(testDescription: "a stranger's", setUp: "mkdir -p a/b; chown 12345 a/b"),
        .init(testDescription: "below a stranger's", setUp: "mkdir -p a/b; chown 12345 a"),
        .init(testDescription: "far below a stranger's", setUp: "mkdir -p a/b/c/d; chown 12345 a", path: "a/b/c/d"),
        .init(testDescription: "for all to write", setUp: "mkdir -p a/b; chmod 777 a/b"),
        .init(testDescription: "sticky, for all to write", setUp: "mkdir -p a/b; chmod 1777 a/b"),
        .init(testDescription: "for its group to write", setUp: "mkdir -p a/b; chmod 775 a/b"),
        .init(testDescription: "below one for all", setUp: "mkdir -p a/b; chmod 777 a"),
        .init(testDescription: "below one for its group", setUp: "mkdir -p a/b; chmod 770 a"),
        .init(testDescription: "not there, in one for all", setUp: "mkdir a; chmod 777 a"),
        .init(testDescription: "not there, in a stranger's", setUp: "mkdir a; chown 12345 a"),
        .init(
            testDescription: "a stranger's in a sticky one",
            setUp: "mkdir -p a/b; chmod 1777 a; chown 12345 a/b"),
        .init(
            testDescription: "a stranger's link in a sticky one",
            setUp: "mkdir -p a c; chmod 1777 a; ln -s $PWD/c a/b; chown -h 12345 a/b"),
        .init(
            testDescription: "a stranger's link on the way",
            setUp: "mkdir -p a c/b; chmod 1777 a; ln -s $PWD/c a/l; chown -h 12345 a/l", path: "a/l/b"),
        .init(testDescription: "a stranger's link to nowhere", setUp: "mkdir a; ln -s no a/b; chown -h 12345 a/b"),
        .init(testDescription: "a link to a stranger's", setUp: "mkdir -p c/b; chown 12345 c; ln -s c a"),
        .init(testDescription: "a link to one for all", setUp: "mkdir -p c/b; chmod 777 c; ln -s c a"),
        .init(testDescription: "a link by way of a stranger's", setUp: "mkdir -p c/d b; chown 12345 c; ln -s c/.. a"),
        .init(testDescription: "links in a circle", setUp: "ln -s c a; ln -s a c"),
        .init(testDescription: "dots by way of a stranger's", setUp: "mkdir -p a/b c; chown 12345 c", path: "c/../a/b"),
        .init(testDescription: "a file on the way", setUp: "touch a"),
        .init(testDescription: "a stranger's file on the way", setUp: "touch a; chown 12345 a"),
        .init(
            testDescription: "a stranger's below a sticky one of ours",
            setUp: "mkdir -p a/x/b; chmod 1777 a; chown 12345 a/x", path: "a/x/b"),
        .init(
            testDescription: "ours below a sticky one of a stranger's",
            setUp: "mkdir -p a/b; chmod 1777 a; chown 12345 a"),
        .init(testDescription: "a pipe in its place", setUp: "mkdir a; mkfifo a/p", path: "a/p/b"),
    ]

    @Test(arguments: cases) func strangersAreSeen(_ attack: Case) throws {
        let scratch = Scratch()
        let outcome = try run("bash", ["-ec", attack.setUp], in: scratch.path)
        try #require(outcome.code == 0, "\(outcome)")
        let why = Files.stranger(onTheWayTo: "\(scratch.path)/\(attack.path)")
        #expect((why != nil) == attack.isRefused, "\(why ?? "nobody")")
    }
}
