import Testing

@testable import Model
@testable import SnabbVMCore

/// The help is a table, of which the compiler does not know whether it is complete.
struct HelpTests {
    /// What snabbvm runs itself, and users never type; the version they see as an option.
    private static let hidden: Set<Verb> = [.relay, .fetch, .digest, .unpack, .version]

    private static let shown = Verb.allCases.filter { !hidden.contains($0) }

    @Test(arguments: shown)
    func tellsOfEachVerb(_ verb: Verb) {
        let rows = Help.verbs.filter { $0.verb == verb }
        #expect(rows.count == 1)
        for row in rows {
            // That of run may be left out, and stands in brackets.
            #expect(row.usage.hasPrefix(verb == .run ? "[run]" : verb.rawValue))
            #expect(!row.summary.isEmpty)
            #expect(Help.text.contains(row.usage))
        }
    }

    @Test func keepsHiddenVerbsToItself() {
        #expect(!Help.verbs.contains { HelpTests.hidden.contains($0.verb) })
    }
}
