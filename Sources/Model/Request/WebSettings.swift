/// How to speak to servers, as the user wants it.
package struct WebSettings: Codable, Equatable {
    package var headers: [String] = []
    package var caCertificates: String?
    package var isInsecure = false
    /// How long a server may say nothing, and how much longer after each failure.
    package var timeout = 30.0
    package var attempts = 10
    package var sleep = 1.0
    package var tick = 1.0

    package init() {}
}
