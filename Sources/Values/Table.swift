/// Columns as wide as what is in them.
package enum Table {
    package static func text(_ heads: [String], _ rows: [[String]], right: Range<Int> = 0..<0) -> String {
        let all = [heads] + rows
        let widths = heads.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            let cells = row.enumerated().map { column, text in
                let text = text.oneLine
                return right.contains(column)
                    ? String(repeating: " ", count: widths[column] - text.count) + text
                    : text.padded(to: widths[column])
            }
            var line = cells.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line
        }.joined(separator: "\n")
    }
}
