/// How much is said.
package enum Verbosity: Comparable { case quiet, normal, verbose }
