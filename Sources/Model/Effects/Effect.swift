import Values

/// A change to the host: each kind is a value that says how it reads in a shell. How it is made and undone stands in a
/// file of the same name. The name of a case is also its name in ledgers, which outlive the program that wrote them.
package enum Effect: Equatable {
    case folder(Folder)
    case file(File)
    case secret(Secret)
    case seed(Seed)
    case disk(Disk)
    case run(Run)
    case remount(Remount)
    case mount(Mount)
    case nic(NICTaking)
    case confirm(NICConfirmation)
    case iommuType(IOMMUType)
    case bind(NICBinding)
    case interfaceUp(InterfaceUp)
    case tap(Tap)
    case device(Device)
    case links(Links)
    case tables(Tables)
    case setting(Setting)
    case switchFiles(SwitchFiles)
    case process(Process)
    case hugepageAdded(HugepageAdded)
    case xdp(XDP)
    case bridged(Bridged)

    /// The name of the case, which is also the ledger's, and its value.
    private var content: (name: String, value: any EffectValue) {
        switch self {
        case .folder(let value): ("folder", value)
        case .file(let value): ("file", value)
        case .secret(let value): ("secret", value)
        case .seed(let value): ("seed", value)
        case .disk(let value): ("disk", value)
        case .run(let value): ("run", value)
        case .remount(let value): ("remount", value)
        case .mount(let value): ("mount", value)
        case .nic(let value): ("nic", value)
        case .confirm(let value): ("confirm", value)
        case .iommuType(let value): ("iommuType", value)
        case .bind(let value): ("bind", value)
        case .interfaceUp(let value): ("interfaceUp", value)
        case .tap(let value): ("tap", value)
        case .device(let value): ("device", value)
        case .links(let value): ("links", value)
        case .tables(let value): ("tables", value)
        case .setting(let value): ("setting", value)
        case .switchFiles(let value): ("switchFiles", value)
        case .process(let value): ("process", value)
        case .hugepageAdded(let value): ("hugepageAdded", value)
        case .xdp(let value): ("xdp", value)
        case .bridged(let value): ("bridged", value)
        }
    }

    /// As commands for a shell.
    package var shellText: String { content.value.shellText }
    /// The commands that give it back; nil where there is nothing to give back, or it is kept.
    package func undoText(_ folders: MachinePaths) -> String? { content.value.undoText(folders) }
    /// For the log, where no file's content belongs.
    package var summary: String {
        guard case .file(let file) = self, let content = file.content else { return shellText.oneLine }
        return "write \(file.path) (\(content.bytes.count) bytes)"
    }
}

/// What an effect is. The ledger has of it only what its undoing takes: what is optional may be missing there.
package protocol EffectValue: Codable, Equatable {
    var shellText: String { get }
    func undoText(_ folders: MachinePaths) -> String?
}

/// An effect that is a file in the end.
package protocol FileEffect: EffectValue {
    var path: String { get }
}

extension FileEffect {
    package func undoText(_ folders: MachinePaths) -> String? {
        folders.keeps(path) ? nil : "rm -f \(path.shellQuoted)"
    }
}

/// An effect that needs no undoing of its own.
package protocol PassingEffect: EffectValue {}

extension PassingEffect {
    package func undoText(_ folders: MachinePaths) -> String? { nil }
}

/// An effect that comes about while the machine runs, and so is in no plan.
package protocol UnplannedEffect: EffectValue {}

extension UnplannedEffect {
    package var shellText: String { "" }
    package func undoText(_ folders: MachinePaths) -> String? { nil }
}

extension Effect: Codable {
    /// What a ledger can hold.
    private enum Kind: String, CodingKey {
        case folder, file, remount, mount, nic, interfaceUp, tap, tables, setting, switchFiles
        case process, hugepageAdded, xdp, bridged
    }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Kind.self)
        guard let kind = values.allKeys.first, values.allKeys.count == 1 else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "no such effect"))
        }
        func value<Value: EffectValue>() throws -> Value { try values.decode(Value.self, forKey: kind) }
        self =
            switch kind {
            case .folder: .folder(try value())
            case .file: .file(try value())
            case .remount: .remount(try value())
            case .mount: .mount(try value())
            case .nic: .nic(try value())
            case .interfaceUp: .interfaceUp(try value())
            case .tap: .tap(try value())
            case .tables: .tables(try value())
            case .setting: .setting(try value())
            case .switchFiles: .switchFiles(try value())
            case .process: .process(try value())
            case .hugepageAdded: .hugepageAdded(try value())
            case .xdp: .xdp(try value())
            case .bridged: .bridged(try value())
            }
    }

    package func encode(to encoder: any Encoder) throws {
        try [content.name: JSON(encoding: content.value)].encode(to: encoder)
    }
}
