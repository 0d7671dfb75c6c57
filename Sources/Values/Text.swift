/// The few things done with text that the standard library lacks.
extension String {
    /// Control characters would let a file name or a guest's words draw on the user's terminal, and those that turn the
    /// direction of writing let them read as something else.
    package var oneLine: String {
        let breaking: Set<Unicode.GeneralCategory> = [.control, .lineSeparator, .paragraphSeparator]
        let shown = unicodeScalars.map { scalar in
            breaking.contains(scalar.properties.generalCategory) || scalar.properties.isBidiControl ? " " : scalar
        }
        return String(String.UnicodeScalarView(shown))
    }

    /// Quoted so that a shell reads it back as one word, plain where that is safe.
    package var shellQuoted: String {
        let safe = { (c: Character) in c.isASCII && (c.isLetter || c.isNumber || "_-+./:=,@%".contains(c)) }
        if !isEmpty, allSatisfy(safe) { return self }
        return "'" + split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
    }

    package var trimmed: String {
        var part = self[...]
        while part.first?.isWhitespace == true { part.removeFirst() }
        while part.last?.isWhitespace == true { part.removeLast() }
        return String(part)
    }

    /// `2,4-7` as numbers; nil where it is no such list.
    package var numberList: [Int]? {
        var numbers: [Int] = []
        for part in split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard ends.count <= 2, let first = ends.first ?? nil, let last = ends.last ?? nil, first <= last,
                first >= 0, last < 65536
            else { return nil }
            numbers += first...last
        }
        return numbers
    }

    /// In lines of at most so many letters.
    package func wrapped(at width: Int) -> [String] {
        var lines: [String] = []
        for word in split(separator: " ") {
            if let last = lines.last, last.count + 1 + word.count <= width {
                lines[lines.count - 1] += " \(word)"
            } else {
                lines.append(String(word))
            }
        }
        return lines
    }

    package func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }

    package func replacing(_ replacements: [Character: String]) -> String {
        map { replacements[$0] ?? String($0) }.joined()
    }

    /// How many letters must be added, dropped or changed to make the other.
    func distance(to other: String) -> Int {
        let (from, to) = (Array(self), Array(other))
        var row = Array(0...to.count)
        for i in from.indices {
            var diagonal = row[0]
            row[0] = i + 1
            for j in to.indices {
                let change = diagonal + (from[i] == to[j] ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = Swift.min(change, row[j] + 1, diagonal + 1)
            }
        }
        return row[to.count]
    }

    /// The candidate that was probably meant, if any is near.
    package func nearest(among candidates: [String]) -> String? {
        let ranked = candidates.map { (name: $0, distance: distance(to: $0)) }.min { $0.distance < $1.distance }
        guard let ranked, ranked.distance <= max(2, count / 3) else { return nil }
        return ranked.name
    }
}

extension [Int] {
    /// `0-3,8` for 0, 1, 2, 3 and 8.
    package var ranges: String {
        var parts: [(Int, Int)] = []
        for number in sorted() {
            if let last = parts.last, last.1 + 1 == number {
                parts[parts.count - 1].1 = number
            } else {
                parts.append((number, number))
            }
        }
        return parts.map { $0 == $1 ? "\($0)" : "\($0)-\($1)" }.joined(separator: ",")
    }
}

/// A digest that is the same on every machine and run; made for names, not against attackers (FNV-1a, mixed at the end
/// since its low bits alone spread badly).
package func stableDigest(_ parts: String...) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in parts.joined(separator: "\0").utf8 {
        hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }
    hash = (hash ^ (hash >> 33)) &* 0xff51_afd7_ed55_8ccd
    hash = (hash ^ (hash >> 33)) &* 0xc4ce_b9fe_1a85_ec53
    return hash ^ (hash >> 33)
}

package func hexadecimal(_ value: UInt64, digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
}

extension [UInt8] {
    package var hexadecimal: String { map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }

    package init?(hexadecimal text: String) {
        let digits = Array(text.utf8)
        self = stride(from: 1, to: digits.count, by: 2).compactMap {
            UInt8(String(decoding: digits[$0 - 1...$0], as: UTF8.self), radix: 16)
        }
        if count * 2 != digits.count { return nil }
    }
}

extension [String] {
    /// One a line.
    package var text: String { map { $0 + "\n" }.joined() }
}

extension String {
    /// QEMU ends a value at a comma; two stand for one.
    package var optionQuoted: String { split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,") }
}
