/// How to speak to servers, as the user wants it.
struct WebSettings: Codable, Equatable {
    var headers: [String] = []
    var caCertificates: String?
    var isInsecure = false
    /// How long a server may say nothing, and how much longer after each failure.
    var timeout = 30.0
    var attempts = 10
    var sleep = 1.0
    var tick = 1.0
}
