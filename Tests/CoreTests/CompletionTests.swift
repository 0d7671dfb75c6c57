import Foundation
import Testing

@testable import CloudInit
@testable import Host
@testable import Images
@testable import Model
@testable import Planning
@testable import SnabbVMCore
@testable import System
@testable import TestSupport
@testable import Values

/// Real shells complete real words.
final class CompletionTests {
    private let scratch = Scratch()

    /// What is on the line, and what must be offered for it; nothing else may begin as that does.
    private static let lines: [(line: String, offered: [String])] = [
        ("snabbvm sta", ["status"]),
        ("snabbvm status --he", ["--health", "--help"]),
        ("snabbvm --accel ", ["auto", "kvm", "tcg"]),
        ("snabbvm images ", ["ls", "pull", "rm", "verify"]),
        ("snabbvm --firmw", ["--firmware"]),
        ("snabbvm -u rea", ["read.me"]),
        ("snabbvm console s", ["screen", "serial"]),
        // What stands behind an option is no verb.
        ("snabbvm --name demo sta", ["status"]),
        ("snabbvm --quiet sta", ["status"]),
        ("snabbvm --hostname status --firmw", ["--firmware"]),
    ]

    init() { _ = scratch.file("read.me", "") }

    private func script(_ shell: Completion) -> String { scratch.file("completion/_snabbvm", shell.script + "\n") }

    @Test func bash() throws {
        let program = """
            source \(script(.bash))
            words=($1); [[ $1 != *" " ]] || words+=("")
            COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
            _snabbvm
            printf '%s\\n' "${COMPREPLY[@]}" | sort
            """
        for (line, offered) in CompletionTests.lines {
            let outcome = try run("bash", ["-uc", program, "bash", line], in: scratch.path)
            #expect(outcome.output.split(separator: "\n").map(String.init) == offered, "\(line): \(outcome)")
        }
    }

    /// One word, with its blank.
    @Test func filesWithBlanksInBash() throws {
        _ = scratch.file("my disk.img", "")
        let program = """
            source \(script(.bash))
            COMP_WORDS=(snabbvm my) COMP_CWORD=1
            _snabbvm
            printf '%s\\n' "${COMPREPLY[@]}"
            COMP_WORDS=(snabbvm --accel = k) COMP_CWORD=3
            _snabbvm
            printf '%s\\n' "${COMPREPLY[@]}"
            """
        let outcome = try run("bash", ["-uc", program], in: scratch.path)
        #expect(outcome.output == "my disk.img\nkvm\n", "\(outcome)")
    }

    @Test(.enabled(if: Parts.has("fish"), "fish is missing")) func fish() throws {
        let path = script(.fish)
        for (line, offered) in CompletionTests.lines {
            let outcome = try run("fish", ["-c", "source \(path); complete -C '\(line)'"], in: scratch.path)
            let words = outcome.output.split(separator: "\n").map { String($0.split(separator: "\t")[0]) }
            #expect(words.sorted() == offered, "\(line): \(outcome)")
        }
    }

    /// It completes only where somebody types.
    @Test(.enabled(if: Parts.has("zsh", "tmux"), "zsh or tmux is missing")) func zsh() throws {
        _ = script(.zsh)
        let tmux = { (words: [String]) in
            try run("tmux", ["-S", "\(self.scratch.path)/tmux"] + words, in: self.scratch.path).output
        }
        _ = try tmux(["-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "40", "zsh", "-f"])
        defer { _ = try? tmux(["kill-server"]) }
        let screen = { (try? tmux(["capture-pane", "-p"])) ?? "" }
        _ = try tmux([
            "send-keys",
            "PS1='%% '; fpath=(\(scratch.path)/completion $fpath); autoload -U compinit; compinit -u -D; echo rea''dy",
            "Enter",
        ])
        #expect(eventually(within: 30) { screen().contains("\nready") }, "\(screen())")
        for (line, offered) in CompletionTests.lines {
            // Only what is wanted is left on the screen, and looked for on it.
            _ = try tmux(["send-keys", "C-u", "clear", "Enter"])
            #expect(eventually(within: 10) { screen().trimmed.hasSuffix("%") })
            _ = try tmux(["send-keys", "-l", line])
            _ = try tmux(["send-keys", "Tab"])
            let isDone = {
                let words = screen().split { $0.isWhitespace || $0 == "=" }.map(String.init)
                return offered.allSatisfy(words.contains)
            }
            #expect(eventually(within: 10, isDone), "\(line): \(screen())")
        }
    }

    @Test(.enabled(if: Parts.has("groff"), "groff is missing")) func manualPageIsWellFormed() throws {
        let page = scratch.file("snabbvm.1", Manual.text + "\n")
        let outcome = try run("groff", ["-man", "-ww", "-Tascii", "-P-cbou", page])
        #expect(outcome.code == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
        for row in OptionRow.table { #expect(outcome.output.contains("--\(row.name)"), "\(row.name)") }
    }
}
