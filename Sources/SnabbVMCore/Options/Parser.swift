import Model
import Values

/// Reads the environment, then the command line over it, both by the option table.
enum Parser {
    static func parse(_ words: [String], environment: [String: String]) throws(Failure) -> Arguments {
        var arguments = Arguments()
        // First the verb alone, since it decides which variables are looked at.
        var (ignored, overridden) = (Arguments(), Arguments())
        let (operands, given) = try read(words, into: &ignored)
        let named = operands.first.flatMap(Verb.init(rawValue:))
        let verb = ignored.verb == .run ? named ?? .run : ignored.verb

        for row in OptionRow.table where row.verbs.contains(verb) && !["help", "version"].contains(row.name) {
            guard let text = environment[row.environmentName] else { continue }
            let shown = row.isSecret ? row.environmentName : "\(row.environmentName)=\(text)"
            // A list on the command line replaces the one in the environment, as single values do.
            if case .list = row.kind, given.contains(row.name) {
                try apply(row, text, shown, to: &overridden)
            } else {
                try apply(row, text, shown, to: &arguments)
            }
        }
        let rest = try read(words, into: &arguments, for: verb).operands
        arguments.verb = verb
        try place(rest.dropFirst(named == nil ? 0 : 1), in: &arguments, environment)
        try checkTogether(arguments)
        return arguments
    }

    /// Applies the options among the words; returns the other words, and the options' names.
    private static func read(
        _ words: [String], into arguments: inout Arguments, for verb: Verb? = nil
    ) throws(Failure) -> (operands: [String], given: Set<String>) {
        var operands: [String] = []
        var given: Set<String> = []
        var rest = words[...]
        while let word = rest.popFirst() {
            // What the guest is to run has options of its own.
            if operands.first == Verb.ssh.rawValue, operands.count > 1 { return (operands + [word] + rest, given) }
            if word == "--" { return (operands + rest, given) }
            guard word.hasPrefix("-"), word != "-" else {
                operands.append(word)
                continue
            }
            let (row, attached) = try find(word)
            given.insert(row.name)
            if let verb, !row.verbs.contains(verb), ![.help, .version].contains(verb) {
                throw usage("use", word, "it is no option of \(verb.rawValue)")
            }
            switch row.kind {
            case .flag:
                try apply(row, attached ?? "yes", word, to: &arguments)
            case .value, .list:
                guard let value = attached ?? rest.popFirst() else {
                    throw usage("use", word, "it needs a value, \(row.placeholder ?? "")")
                }
                let shown = row.isSecret ? "--\(row.name)" : attached == nil ? "\(word) \(value)" : word
                try apply(row, value, shown, to: &arguments)
            }
        }
        return (operands, given)
    }

    /// The row of `--name`, `--name=value`, `-n` or `-nvalue`, with the value if it is attached.
    private static func find(_ word: String) throws(Failure) -> (OptionRow, attached: String?) {
        if word.hasPrefix("--") {
            let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts.first ?? "")
            if let row = OptionRow.table.first(where: { $0.name == name }) {
                return (row, parts.count > 1 ? String(parts[1]) : nil)
            }
            let near = name.nearest(among: OptionRow.table.map(\.name))
            throw usage("use", "--\(name)", "there is no such option", near.map { "did you mean --\($0)?" })
        }
        let letter = word[word.index(after: word.startIndex)]
        guard let row = OptionRow.table.first(where: { $0.letter == letter }) else {
            throw usage("use", "-\(letter)", "there is no such option")
        }
        let value = word.dropFirst(2)
        if value.isEmpty { return (row, nil) }
        guard row.placeholder != nil else { throw usage("use", word, "-\(letter) takes no value") }
        return (row, String(value))
    }

    private static func apply(
        _ row: OptionRow, _ text: String, _ shown: String, to arguments: inout Arguments
    ) throws(Failure) {
        switch row.kind {
        case .flag(let set):
            switch text.lowercased() {
            case "yes", "true", "1", "on": set(&arguments, true)
            case "no", "false", "0", "off", "": set(&arguments, false)
            default: throw usage("use", shown, "'\(text)' is neither yes nor no")
            }
        case .value(let placeholder, let set):
            if !set(&arguments, text) { throw usage("use", shown, "'\(text)' is not \(placeholder)") }
        case .list(let placeholder, let add):
            let items = shown.hasPrefix("SNABBVM_") ? text.split(separator: "\n").map(String.init) : [text]
            for item in items where !add(&arguments, item) {
                throw usage("use", shown, (row.isSecret ? "it" : "'\(item)'") + " is not \(placeholder)")
            }
        }
    }

    private static func place(
        _ operands: ArraySlice<String>, in arguments: inout Arguments, _ environment: [String: String]
    ) throws(Failure) {
        var operands = operands
        switch arguments.verb {
        case .run, .demo, .check:
            // A machine can do without an image; a port is then the first operand.
            let needsImage = arguments.kernel == nil && arguments.state == nil && arguments.cdrom == nil
            if arguments.verb == .demo { arguments.image = "demo" }
            if arguments.verb == .run, let first = operands.first, needsImage || !first.looksLikePort {
                arguments.image = operands.removeFirst()
            }
            arguments.ports = try ports(operands, environment)
        case .release:
            for operand in operands {
                guard let address = PCIAddress(operand) else {
                    throw usage("release", "'\(operand)'", "it is no PCI address", "see snabbvm nics")
                }
                arguments.addresses.append(address)
            }
        case .images:
            if let first = operands.first {
                guard let verb = ImagesVerb(rawValue: first) else {
                    throw usage("do", "'images \(first)'", "it is none of ls, pull, rm, verify")
                }
                arguments.imagesVerb = verb
                arguments.images = Array(operands.dropFirst())
            }
            try checkImages(arguments)
        case .disk:
            if let first = operands.popFirst() {
                guard let verb = DiskVerb(rawValue: first) else {
                    let known = DiskVerb.allCases.map(\.rawValue).joined(separator: ", ")
                    throw usage("do", "'disk \(first)'", "it is none of \(known)")
                }
                arguments.diskVerb = verb
            }
            if [.rebase, .export].contains(arguments.diskVerb) {
                let what = arguments.diskVerb == .rebase ? "IMAGE" : "FILE"
                guard let name = operands.popFirst() else {
                    throw usage("do", "'disk \(arguments.diskVerb.rawValue)'", "no \(what) given")
                }
                arguments.image = name
            }
            try refuse(operands)
            if arguments.state == nil {
                throw usage("look at", "a kept disk", "no folder given", "say where it is with --state DIR")
            }
        case .completion, .console, .relay, .help, .digest, .unpack:
            arguments.operand = operands.popFirst()
            try refuse(operands)
            if arguments.verb == .completion, arguments.operand.flatMap(Completion.init(rawValue:)) == nil {
                throw usage("complete words of", "'\(arguments.operand ?? "")'", "it is none of bash, zsh, fish")
            }
        case .ssh: arguments.command = Array(operands)
        case .nics, .status, .ports, .stop, .version, .fetch, .manual: try refuse(operands)
        }
    }

    private static func checkImages(_ arguments: Arguments) throws(Failure) {
        let isEmpty = arguments.images.isEmpty
        switch arguments.imagesVerb {
        case .ls: try refuse(arguments.images[...])
        case .pull:
            if isEmpty { throw usage("pull", "images", "no IMAGE given") }
            if arguments.checksum != nil, arguments.images.count > 1, !arguments.hasChecksumList {
                throw usage("use", "--checksum", "one digest can't be that of \(arguments.images.count) images")
            }
        case .rm: if isEmpty != arguments.all { throw usage("remove", "images", "give names, or --all") }
        case .verify: break
        }
    }

    private static func ports(
        _ operands: ArraySlice<String>, _ environment: [String: String]
    ) throws(Failure) -> [PortRequest] {
        var requests: [PortRequest] = []
        for operand in operands { requests += try PortRequest.parse(operand, environment: environment) }
        if operands.isEmpty, let list = environment["SNABBVM_PORTS"] {
            requests = try PortRequest.parse(list: list, environment: environment)
        }
        for (index, request) in requests.enumerated()
        where requests[..<index].contains(where: { $0.source == request.source }) {
            throw usage("use port", "\(request.source)", "it is given twice", "give each port once")
        }
        return requests
    }

    private static func refuse(_ operands: ArraySlice<String>) throws(Failure) {
        guard let first = operands.first else { return }
        throw usage("take", "'\(first)'", "an argument too many")
    }

    private static func checkTogether(_ arguments: Arguments) throws(Failure) {
        if arguments.keyring != nil, !arguments.hasChecksumList {
            throw usage("use", "--keyring", "it is for the list that --checksum names, and none is given")
        }
        guard [.run, .demo].contains(arguments.verb) else { return }
        if arguments.image == nil, arguments.kernel == nil, arguments.cdrom == nil, arguments.state == nil {
            throw usage("run", "a machine", "no IMAGE given", "give a disk image, or 'demo' for the built-in machine")
        }
        if arguments.kernel == nil, let orphan = arguments.initrd ?? arguments.append {
            throw usage("use", "--initrd or --append '\(orphan)'", "they go with --kernel")
        }
        if let name = arguments.bridge, ![nil, .bridge(nil), .bridge(name)].contains(arguments.net) {
            throw usage("use", "--bridge \(name)", "it goes with --net bridge")
        }
        if arguments.net == NetworkMode.none, let published = arguments.published.first {
            throw usage("publish", "\(published)", "--net none leaves the machine without a network")
        }
        if arguments.net == NetworkMode.none, arguments.address != nil || arguments.mac != nil {
            throw usage("use", "--address or --mac", "--net none leaves the machine without an eth0")
        }
        if arguments.copy, arguments.image == nil { throw usage("use", "--copy", "there is no IMAGE to copy") }
    }

    private static func usage(
        _ operation: String, _ subject: String, _ cause: String, _ remedy: String? = nil
    ) -> Failure {
        Failure(.usage, operation, subject, cause, remedy: remedy ?? "see snabbvm --help")
    }
}

extension Arguments {
    fileprivate var hasChecksumList: Bool {
        if let checksum, case .list = ChecksumRequest(checksum) { true } else { false }
    }
}

extension String {
    /// `0000:05:00.0`, `if:eth1` and so on, settings behind it or not; wrong ones too, to be refused as ports.
    fileprivate var looksLikePort: Bool {
        let name = prefix { $0 != "," }
        if ["env:", "if:", "tap:"].contains(where: name.hasPrefix) { return true }
        return name.contains(":") && name.contains(".") && name.allSatisfy { $0.isHexDigit || ":.".contains($0) }
    }
}
