import Model
import Values

/// What makes a shell complete the words of a command line: from the table of options and the list of verbs.
enum Completion: String, CaseIterable {
    case bash, zsh, fish

    private static var verbs: [Verb] { Verb.shown }

    var script: String {
        switch self {
        case .bash: Completion.bashScript
        case .zsh: Completion.zshScript
        case .fish: Completion.fishScript
        }
    }

    /// What can stand behind an option, or as an operand of a verb.
    fileprivate enum Values {
        case none, files, folders
        case words([String])
    }

    private static func operands(of verb: Verb) -> Values {
        switch verb {
        case .run: .files
        case .images: .words(ImagesVerb.allCases.map(\.rawValue))
        case .console: .words(StreamName.allCases.map(\.rawValue))
        case .completion: .words(Completion.allCases.map(\.rawValue))
        default: .none
        }
    }

    /// As words of a shell's pattern: behind these stands a value, which is no verb whatever it says.
    private static func optionsWithValues(_ separator: String) -> String {
        OptionRow.table.filter { $0.placeholder != nil }.flatMap { row in
            (row.letter.map { ["-\($0)"] } ?? []) + ["--\(row.name)"]
        }.joined(separator: separator)
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
        for row in OptionRow.table {
            guard row.placeholder != nil else { continue }
            let names = (row.letter.map { "-\($0) | " } ?? "") + "--\(row.name)"
            switch row.values {
            case .none: lines.append("    \(names)) return ;;")
            case .files: lines.append("    \(names)) mapfile -t COMPREPLY < <(compgen -f -- \"$here\"); return ;;")
            case .folders: lines.append("    \(names)) mapfile -t COMPREPLY < <(compgen -d -- \"$here\"); return ;;")
            case .words(let words):
                let list = words.joined(separator: " ")
                lines.append("    \(names)) mapfile -t COMPREPLY < <(compgen -W '\(list)' -- \"$here\"); return ;;")
            }
        }
        lines += ["    esac", "    case ${verb:-run} in"]
        for verb in verbs {
            let options = OptionRow.table.filter { $0.applies(to: verb) }.map { "--\($0.name)" }
            var line = "    \(verb.rawValue)) options='\(options.joined(separator: " "))'"
            switch operands(of: verb) {
            case .words(let words): line += " words='\(words.joined(separator: " "))'"
            case .files, .folders: line += " files=yes"
            case .none: break
            }
            lines.append(line + " ;;")
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
        lines += verbs.map { "        '\($0.rawValue):\(quoted($0.summary))'" }
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
            for row in OptionRow.table where row.applies(to: verb) {
                let value = row.placeholder.map { ":\(quoted($0)):\(row.values.zshAction)" } ?? ""
                let name = "--\(row.name)" + (row.placeholder == nil ? "" : "=")
                let names = row.letter.map { "{-\($0),\(name)}" } ?? name
                let isList = if case .list = row.kind { true } else { false }
                let others = row.letter.map { "(-\($0) --\(row.name))" } ?? ""
                lines.append("        '\(isList ? "*" : others)'\(names)'[\(quoted(row.help))]\(value)'")
            }
            let operands =
                switch operands(of: verb) {
                case .none: ""
                case .files, .folders: "'*: :_files'"
                case .words(let words): "'*: :(\(words.joined(separator: " ")))'"
                }
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
        var result = ""
        for character in text {
            switch character {
            case "'": result += "'\\''"
            case ":", "[", "]": result += "\\\(character)"
            default: result.append(character)
            }
        }
        return result
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
        for verb in verbs {
            lines.append(
                "complete -c snabbvm -n 'contains (__snabbvm_verb) none' -a \(verb.rawValue)"
                    + " -d \(verb.summary.shellQuoted)")
        }
        for verb in verbs {
            let condition = condition(for: [verb])
            switch operands(of: verb) {
            case .none: break
            case .files, .folders: lines.append("complete -c snabbvm\(condition) -F")
            case .words(let words):
                lines.append("complete -c snabbvm\(condition) -a '\(words.joined(separator: " "))'")
            }
        }
        for row in OptionRow.table {
            let letter = row.letter.map { " -s \($0)" } ?? ""
            let value =
                switch row.values {
                case .none: row.placeholder == nil ? "" : " -x"
                case .files: " -r -F"
                case .folders: " -x -a '(__fish_complete_directories)'"
                case .words(let words): " -x -a '\(words.joined(separator: " "))'"
                }
            lines.append(
                "complete -c snabbvm\(condition(for: verbs.filter(row.applies(to:))))\(letter) -l \(row.name)\(value)"
                    + " -d \(row.help.shellQuoted)")
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
    /// By what the help calls the value.
    fileprivate var values: Completion.Values {
        guard let placeholder else { return .none }
        let choices = placeholder.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
        switch placeholder {
        case "DIR": return .folders
        case _ where choices.contains { $0 == "FILE" || $0 == "@FILE" }: return .files
        case _ where choices.count > 1:
            // Those that are to be replaced are of no help.
            let fixed = choices.filter { $0.allSatisfy { $0.isLowercase || $0.isNumber || "-_".contains($0) } }
            return fixed.isEmpty ? .none : .words(fixed)
        default: return .none
        }
    }
}

extension Completion.Values {
    fileprivate var zshAction: String {
        switch self {
        case .none: ""
        case .files: "_files"
        case .folders: "_files -/"
        case .words(let words): "(\(words.joined(separator: " ")))"
        }
    }
}
