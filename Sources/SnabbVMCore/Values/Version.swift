/// This program's, as it tells users, servers and guests.
enum Version {
    static let text = "0.1.0"
}
