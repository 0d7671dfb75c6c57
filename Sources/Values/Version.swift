/// This program's, as it tells users, servers and guests.
package enum Version {
    package static let text = "0.1.0"
}
