/// How much is said.
package enum Verbosity: Int, Comparable {
    case quiet, normal, verbose
    package static func < (a: Verbosity, b: Verbosity) -> Bool { a.rawValue < b.rawValue }
}
