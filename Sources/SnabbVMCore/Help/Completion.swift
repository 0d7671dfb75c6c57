import Model
import Values

/// What makes a shell complete the words of a command line: from the table of options and the list of verbs.
enum Completion: String, CaseIterable {
    case bash, zsh, fish

    private static let verbs = Help.verbs.map(\.verb)

    var script: String {
        switch self {
        case .bash: Completion.bashScript
        case .zsh: Completion.zshScript
        case .fish: Completion.fishScript
        }
    }

    /// What can stand behind an option, or as an operand of a verb.
    fileprivate struct Values: Equatable {
        /// For bash: what its compgen is told, and the variable that an operand sets.
        let compgen, variable: String
        /// For zsh's _arguments.
        let action: String
        /// For fish's complete.
        let words: String

        static let files = Values(compgen: "-f", variable: "files=yes", action: "_files", words: "-F")
        static let folders = Values(
            compgen: "-d", variable: "files=yes", action: "_files -/", words: "-a '(__fish_complete_directories)'")

        static func words(_ words: [String]) -> Values {
            let list = words.joined(separator: " ")
            return Values(
                compgen: "-W '\(list)'", variable: "words='\(list)'", action: "(\(list))", words: "-a '\(list)'")
        }
    }

    private static func operands(of verb: Verb) -> Values? {
        switch verb {
        case .run: .files
        case .images: .words(ImagesVerb.allCases.map(\.rawValue))
        case .disk: .words(DiskVerb.allCases.map(\.rawValue))
        case .console: .words(StreamName.allCases.map(\.rawValue))
        case .completion: .words(Completion.allCases.map(\.rawValue))
        default: nil
        }
    }

    /// As words of a shell's pattern: behind these stands a value, which is no verb whatever it says.
    private static func optionsWithValues(_ separator: String) -> String {
        OptionRow.table.filter { $0.placeholder != nil }.flatMap(\.words).joined(separator: separator)
    }

    // MARK: - bash

    private static var bashScript: String {
        let verbWords = verbs.map(\.rawValue)
        var lines = [
            "# bash completion of snabbvm", "_snabbvm() {", "    local word verb= skip= options= words= files=",
            "    local here=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}",
            "    # An equals sign is a word of its own.",
            "    if [ \"$here\" = = ]; then here=; elif [ \"$before\" = = ]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi",
            "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do",
            "        if [ -n \"$skip\" ]; then skip=; continue; fi", "        case $word in",
            "        \(optionsWithValues(" | "))) skip=yes ;;",
            "        \(verbWords.joined(separator: " | "))) verb=$word; break ;;", "        esac", "    done",
            "    case $before in",
        ]
        for row in OptionRow.table where row.placeholder != nil {
            let reply = row.values.map { "mapfile -t COMPREPLY < <(compgen \($0.compgen) -- \"$here\"); " } ?? ""
            lines.append("    \(row.words.joined(separator: " | "))) \(reply)return ;;")
        }
        lines += ["    esac", "    case ${verb:-run} in"]
        for verb in verbs {
            let options = OptionRow.table.filter { $0.verbs.contains(verb) }.map { "--\($0.name)" }
            let operands = operands(of: verb).map { " \($0.variable)" } ?? ""
            lines.append("    \(verb.rawValue)) options='\(options.joined(separator: " "))'\(operands) ;;")
        }
        lines += [
            "    esac", "    [ -n \"$verb\" ] || words='\(verbWords.joined(separator: " "))'",
            "    case $here in -*) words=$options files= ;; esac",
            "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$here\"; [ -z \"$files\" ] || compgen -f -- \"$here\")",
            "}", "complete -o filenames -F _snabbvm snabbvm",
        ]
        return lines.joined(separator: "\n")
    }

    // MARK: - zsh

    private static var zshScript: String {
        var lines = [
            "#compdef snabbvm", "# zsh completion of snabbvm", "_snabbvm() {", "    local verb word skip",
            "    local -a verbs options", "    verbs=(",
        ]
        lines += Help.verbs.map { "        '\($0.verb.rawValue):\(quoted($0.summary))'" }
        lines += [
            "    )", "    for word in ${words[2,CURRENT-1]}; do",
            "        if [[ -n $skip ]]; then skip=; continue; fi", "        case $word in",
            "        (\(optionsWithValues("|"))) skip=yes ;;",
            "        (\(verbs.map(\.rawValue).joined(separator: "|"))) verb=$word; break ;;", "        esac",
            "    done",
            "    case ${verb:-run} in",
        ]
        for verb in verbs {
            lines.append("    \(verb.rawValue)) options=(")
            for row in OptionRow.table where row.verbs.contains(verb) {
                let value = row.placeholder.map { ":\(quoted($0)):\(row.values?.action ?? "")" } ?? ""
                let name = "--\(row.name)" + (row.placeholder == nil ? "" : "=")
                let names = row.letter.map { "{-\($0),\(name)}" } ?? name
                let isList = if case .list = row.kind { true } else { false }
                let others = row.letter == nil ? "" : "(\(row.words.joined(separator: " ")))"
                lines.append("        '\(isList ? "*" : others)'\(names)'[\(quoted(row.help))]\(value)'")
            }
            let operands = operands(of: verb).map { "'*: :\($0.action)'" } ?? ""
            lines.append("        \(operands)) ;;")
        }
        lines += [
            "    esac",
            "    if [[ -z $verb && -z $skip && $words[CURRENT] != -* ]]; then _describe command verbs; fi",
            "    # The verb is not one of its own operands.",
            "    if [[ -n $verb ]]; then local at=${words[(i)$verb]}; words[at]=(); (( CURRENT-- )); fi",
            "    _arguments -s \"${options[@]}\"", "}",
            "if [[ $zsh_eval_context[-1] = loadautofunc ]]; then _snabbvm \"$@\"; else compdef _snabbvm snabbvm; fi",
        ]
        return lines.joined(separator: "\n")
    }

    /// For zsh, within single quotes, brackets and colons.
    private static func quoted(_ text: String) -> String {
        text.replacing(["'": "'\\''", ":": "\\:", "[": "\\[", "]": "\\]"])
    }

    // MARK: - fish

    private static var fishScript: String {
        let names = verbs.map(\.rawValue).joined(separator: " ")
        var lines = [
            "# fish completion of snabbvm", "function __snabbvm_verb", "    set -l skip no",
            "    for word in (commandline -opc)[2..-1]", "        if test $skip = yes", "            set skip no",
            "            continue", "        end", "        switch $word", "            case \(optionsWithValues(" "))",
            "                set skip yes", "            case \(names)", "                echo $word",
            "                return", "        end", "    end", "    echo none", "end", "complete -c snabbvm -f",
        ]
        for (verb, _, summary) in Help.verbs {
            lines.append(
                "complete -c snabbvm -n 'contains (__snabbvm_verb) none' -a \(verb.rawValue) -d \(summary.shellQuoted)")
        }
        for verb in verbs {
            guard let operands = operands(of: verb) else { continue }
            lines.append("complete -c snabbvm\(condition(for: [verb])) \(operands.words)")
        }
        for row in OptionRow.table {
            let letter = row.letter.map { " -s \($0)" } ?? ""
            let value = row.placeholder == nil ? "" : row.values == .files ? " -r" : " -x"
            let words = row.values.map { " \($0.words)" } ?? ""
            lines.append(
                "complete -c snabbvm\(condition(for: verbs.filter(row.verbs.contains)))\(letter) -l \(row.name)\(value)"
                    + "\(words) -d \(row.help.shellQuoted)")
        }
        return lines.joined(separator: "\n")
    }

    /// Without a verb it is run.
    private static func condition(for verbs: [Verb]) -> String {
        let names = verbs.map(\.rawValue) + (verbs.contains(.run) ? ["none"] : [])
        return " -n 'contains (__snabbvm_verb) \(names.joined(separator: " "))'"
    }
}

extension OptionRow {
    /// `-m` and `--memory`.
    fileprivate var words: [String] { (letter.map { ["-\($0)"] } ?? []) + ["--\(name)"] }

    /// By what the help calls the value.
    fileprivate var values: Completion.Values? {
        let choices = (placeholder ?? "").split(separator: "|").map(String.init)
        if choices == ["DIR"] { return .folders }
        if choices.contains("FILE") || choices.contains("@FILE") { return .files }
        // Those that are to be replaced are of no help.
        let fixed = choices.filter { $0.allSatisfy { $0.isLowercase || $0.isNumber || "-_".contains($0) } }
        return choices.count > 1 && !fixed.isEmpty ? .words(fixed) : nil
    }
}
