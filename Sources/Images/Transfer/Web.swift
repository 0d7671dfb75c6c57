import CLoad
import Glibc
import Model
import System
import Values

/// libcurl in the one loop: many requests at once over connections that are used again.
final class Web {
    private let multi: UnsafeMutableRawPointer
    fileprivate let settings: WebSettings
    fileprivate let loop: EventLoop
    private var timer: EventLoop.Timer?
    private var running: [UnsafeMutableRawPointer: WebRequest] = [:]
    /// What a handler threw, while libcurl was on the stack.
    fileprivate var thrown: (any Error)?

    init(_ settings: WebSettings, loop: EventLoop) throws(Failure) {
        try Failure.refuse(cload_curl(), "libcurl", package: "libcurl4")
        guard let made = ccurl_multi() else { throw Failure(.host, "set up", "libcurl", "out of memory") }
        multi = made
        self.settings = settings
        self.loop = loop
        let context = Unmanaged.passUnretained(self).toOpaque()
        ccurl_multi_watch(
            made,
            { _, socket, what, context, _ in
                Unmanaged<Web>.fromOpaque(context!).takeUnretainedValue().watch(socket, what)
                return 0
            },
            { _, milliseconds, context in
                Unmanaged<Web>.fromOpaque(context!).takeUnretainedValue().setTimer(milliseconds)
                return 0
            }, context)
    }

    deinit { ccurl_multi_free(multi) }

    /// At the loop's next turn, since libcurl may be on the stack, which then takes neither a new request nor one away.
    fileprivate func start(_ request: WebRequest) {
        loop.after(.zero) { [self] in
            if request.isOver { return }
            running[request.easy] = request
            ccurl_multi_add(multi, request.easy)
        }
    }

    fileprivate func cancel(_ request: WebRequest) {
        loop.after(.zero) { [self] in remove(request) }
    }

    private func remove(_ request: WebRequest) {
        guard running.removeValue(forKey: request.easy) != nil else { return }
        ccurl_multi_remove(multi, request.easy)
    }

    private func watch(_ socket: curl_socket_t, _ what: Int32) {
        if what == CURL_POLL_REMOVE { return loop.unwatch(socket) }
        var events: EventLoop.Events = []
        if what & CURL_POLL_IN != 0 { events.insert(.readable) }
        if what & CURL_POLL_OUT != 0 { events.insert(.writable) }
        loop.watch(socket, for: events) { [unowned self] happened in
            var action: Int32 = 0
            if !happened.isDisjoint(with: [.readable, .hangup]) { action |= CURL_CSELECT_IN }
            if happened.contains(.writable) { action |= CURL_CSELECT_OUT }
            try act(socket, action)
        }
    }

    private func setTimer(_ milliseconds: Int) {
        loop.cancel(timer)
        if milliseconds < 0 { return }
        timer = loop.after(.milliseconds(milliseconds)) { [unowned self] in try act(-1, 0) }
    }

    private func act(_ socket: curl_socket_t, _ events: Int32) throws {
        ccurl_multi_act(multi, socket, events)
        var result = CURLE_OK
        while let easy = ccurl_multi_ended(multi, &result) {
            guard let request = running[easy] else { continue }
            remove(request)
            if thrown == nil { try request.end(result) }
        }
        if let error = thrown {
            thrown = nil
            throw error
        }
    }
}

/// One question to a server, and its answer.
final class WebRequest {
    /// What the server says before the content.
    struct Head {
        var status = 0
        var fields: [String: String] = [:]
        /// How much content is to come in this answer.
        fileprivate var contentLength: UInt64?
        /// Its end is told from that of a broken connection.
        fileprivate(set) var hasEnd = true

        var validators: Validators {
            let length = status == 206 ? contentRange?.total : contentLength
            var result = Validators(etag: fields["etag"], lastModified: fields["last-modified"], length: length)
            if let modified = fields["last-modified"].map({ ccurl_date($0) }), modified > 0 {
                result.isDateStrong = modified < fields["date"].map { ccurl_date($0) } ?? modified
            }
            return result
        }

        /// `bytes 0-99/1000`
        var contentRange: (range: Range<UInt64>, total: UInt64?)? {
            guard let words = fields["content-range"]?.split(separator: " "), words.count == 2, words[0] == "bytes"
            else { return nil }
            let parts = words[1].split(separator: "/")
            let ends = parts.first.map { $0.split(separator: "-").map { UInt64($0) } } ?? []
            let most = UInt64(Int64.max)
            guard parts.count == 2, ends.count == 2, let first = ends[0], let last = ends[1], first <= last, last < most
            else { return nil }
            let total = UInt64(parts[1])
            guard total.map({ $0 > last && $0 <= most }) ?? true else { return nil }
            return (first..<last + 1, total)
        }
    }

    fileprivate let easy: UnsafeMutableRawPointer
    private let web: Web
    private let address: ImageURL
    private var list: UnsafeMutablePointer<curl_slist>?
    private var headers: [String]
    private let conditions: [String]
    private let redirectProtocols: String
    private var redirects = 0
    private static let mostRedirects = 10
    private var fields: [String: String] = [:]
    fileprivate private(set) var isOver = false
    private var failure: WebFailure?
    private(set) var head = Head()
    private var hasHead = false

    /// Decides about the content, once: whether it is wanted.
    var onHead: (Head) throws -> Bool = { _ in true }
    var onBody: (UnsafeRawBufferPointer) throws -> Bool = { _ in true }
    /// nil when all of the answer has come, or was not wanted.
    var onEnd: (WebFailure?) throws -> Void = { _ in }
    private var wasCutOff = false

    /// `range` asks for a part of the file, as far as its end when there is no upper bound.
    init(
        _ address: ImageURL, in web: Web, range: (from: UInt64, to: UInt64?)? = nil, conditions: [String] = [],
        headOnly: Bool = false, sendsHeaders: Bool = true, patience: Double? = nil
    ) throws(Failure) {
        guard let made = ccurl_easy() else { throw Failure(.host, "set up", "libcurl", "out of memory") }
        easy = made
        self.conditions = conditions
        // libcurl would take the user's headers along to other hosts.
        headers = sendsHeaders ? web.settings.headers : []
        // Whoever asks by https is not to be sent where anybody can change what comes.
        let mayLeaveTLS = web.settings.isInsecure || address.scheme != "https"
        redirectProtocols = mayLeaveTLS ? "http,https,ftp,ftps" : "https"
        self.web = web
        self.address = address
        let settings = web.settings
        let context = Unmanaged.passUnretained(self).toOpaque()
        ccurl_set_text(easy, CURLOPT_URL, address.text)
        ccurl_set_number(easy, CURLOPT_NOSIGNAL, 1)
        ccurl_set_number(easy, CURLOPT_FOLLOWLOCATION, headers.isEmpty ? 1 : 0)
        ccurl_set_number(easy, CURLOPT_MAXREDIRS, Int64(WebRequest.mostRedirects))
        ccurl_set_text(easy, CURLOPT_PROTOCOLS_STR, "http,https,ftp,ftps")
        ccurl_set_text(easy, CURLOPT_REDIR_PROTOCOLS_STR, redirectProtocols)
        ccurl_set_number(easy, CURLOPT_BUFFERSIZE, 512 << 10)
        ccurl_set_number(easy, CURLOPT_TCP_KEEPALIVE, 1)
        ccurl_set_number(easy, CURLOPT_NETRC, Int64(CCURL_NETRC_OPTIONAL))
        ccurl_set_text(easy, CURLOPT_USERAGENT, "snabbvm/\(Version.text)")
        ccurl_set_number(easy, CURLOPT_FILETIME, 1)
        let patience = max(1, patience ?? settings.timeout)
        ccurl_set_number(easy, CURLOPT_CONNECTTIMEOUT_MS, Int64(patience * 1000))
        ccurl_set_number(easy, CURLOPT_LOW_SPEED_LIMIT, 1)
        ccurl_set_number(easy, CURLOPT_LOW_SPEED_TIME, Int64(patience.rounded(.up)))
        if settings.isInsecure {
            ccurl_set_number(easy, CURLOPT_SSL_VERIFYPEER, 0)
            ccurl_set_number(easy, CURLOPT_SSL_VERIFYHOST, 0)
        }
        if let file = settings.caCertificates {
            ccurl_set_text(easy, CURLOPT_CAINFO, file)
            // And no others: libcurl knows the host's by a folder as well.
            ccurl_set_text(easy, CURLOPT_CAPATH, nil)
        }
        if headOnly { ccurl_set_number(easy, CURLOPT_NOBODY, 1) }
        if let range {
            if address.isFTP, range.to == nil {
                ccurl_set_number(easy, CURLOPT_RESUME_FROM_LARGE, Int64(range.from))
            } else {
                ccurl_set_text(easy, CURLOPT_RANGE, "\(range.from)-" + (range.to.map { "\($0 - 1)" } ?? ""))
            }
        }
        setHeaders(headers + conditions)
        ccurl_set_receiver(easy, CURLOPT_HEADERFUNCTION) { bytes, size, count, context in
            let line = UnsafeRawBufferPointer(start: bytes, count: size * count)
            Unmanaged<WebRequest>.fromOpaque(context!).takeUnretainedValue().take(
                header: String(decoding: line, as: UTF8.self))
            return size * count
        }
        ccurl_set_context(easy, CURLOPT_HEADERDATA, context)
        ccurl_set_receiver(easy, CURLOPT_WRITEFUNCTION) { bytes, size, count, context in
            let body = UnsafeRawBufferPointer(start: bytes, count: size * count)
            let isTaken = Unmanaged<WebRequest>.fromOpaque(context!).takeUnretainedValue().take(body: body)
            return isTaken ? size * count : 0
        }
        ccurl_set_context(easy, CURLOPT_WRITEDATA, context)
        web.start(self)
    }

    deinit {
        ccurl_easy_free(easy)
        ccurl_list_free(list)
    }

    /// Until all of the answer has come; why not, if it did not.
    func wait() throws -> WebFailure? {
        try web.loop.run { isOver }
        return failure
    }

    /// No more of it is wanted, and nothing more will be said.
    func cancel() {
        isOver = true
        forget()
        web.cancel(self)
    }

    private func setHeaders(_ lines: [String]) {
        ccurl_set_list(easy, CURLOPT_HTTPHEADER, nil)
        ccurl_list_free(list)
        list = nil
        for line in lines { list = ccurl_append(list, line) }
        if let list { ccurl_set_list(easy, CURLOPT_HTTPHEADER, list) }
    }

    /// Where a redirect leads that libcurl was not to follow.
    private var nextAddress: ImageURL? {
        guard !headers.isEmpty, (300..<400).contains(ccurl_number(easy, CURLINFO_RESPONSE_CODE)) else { return nil }
        return ccurl_text(easy, CURLINFO_REDIRECT_URL).flatMap { ImageURL(String(cString: $0)) }
    }

    private func follow(_ next: ImageURL) throws {
        redirects += 1
        guard redirects <= WebRequest.mostRedirects else {
            return try finish(WebFailure(CURLE_TOO_MANY_REDIRECTS, easy: easy))
        }
        if next.origin != address.origin {
            headers = []
            setHeaders(conditions)
            ccurl_set_number(easy, CURLOPT_FOLLOWLOCATION, 1)
            ccurl_set_number(easy, CURLOPT_MAXREDIRS, Int64(WebRequest.mostRedirects - redirects))
        }
        ccurl_set_text(easy, CURLOPT_PROTOCOLS_STR, redirectProtocols)
        ccurl_set_text(easy, CURLOPT_URL, next.origin == address.origin ? next.withLogin(of: address).text : next.text)
        (hasHead, fields) = (false, [:])
        web.start(self)
    }

    private func take(header line: String) {
        // After a redirect or a question for a password another answer follows.
        if line.hasPrefix("HTTP/") { fields = [:] }
        guard let colon = line.firstIndex(of: ":") else { return }
        fields[line[..<colon].lowercased()] = String(line[line.index(after: colon)...]).trimmed
    }

    private func finishHead() {
        hasHead = true
        head.status = Int(ccurl_number(easy, CURLINFO_RESPONSE_CODE))
        head.fields = fields
        head.contentLength = UInt64(exactly: ccurl_offset(easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T))
        head.hasEnd =
            address.isFTP || head.contentLength != nil || fields["transfer-encoding"] != nil
            || ccurl_number(easy, CURLINFO_HTTP_VERSION) > CURL_HTTP_VERSION_1_1
        let time = ccurl_offset(easy, CURLINFO_FILETIME_T)
        if address.isFTP, time >= 0 { head.fields["last-modified"] = "\(time)" }
    }

    private func take(body: UnsafeRawBufferPointer) -> Bool {
        if isOver { return false }
        // What a redirect says besides.
        if nextAddress != nil { return true }
        do {
            if !hasHead {
                finishHead()
                wasCutOff = try !onHead(head)
            }
            if !wasCutOff, !isOver { wasCutOff = try !onBody(body) }
        } catch {
            web.thrown = error
            wasCutOff = true
        }
        return !wasCutOff && !isOver
    }

    fileprivate func end(_ result: CURLcode) throws {
        if isOver { return }
        if result == CURLE_OK, let next = nextAddress { return try follow(next) }
        if !hasHead {
            finishHead()
            if result == CURLE_OK { _ = try onHead(head) }
        }
        try finish(result == CURLE_OK || wasCutOff ? nil : WebFailure(result, easy: easy))
    }

    private func finish(_ failure: WebFailure?) throws {
        isOver = true
        self.failure = failure
        let tell = onEnd
        forget()
        try tell(failure)
    }

    /// Whoever listens may hold this request in turn.
    private func forget() { (onHead, onBody, onEnd) = ({ _ in true }, { _ in true }, { _ in }) }
}

/// Why a server could not be had, and whether it is worth asking again.
struct WebFailure: Error {
    var words: String
    var remedy: String?
    var isPassing: Bool
    /// As if the network were not there; the cache may stand in for it.
    var isAbsence = true
    /// The server is there, and the file is not.
    var isMissing = false
}

extension WebFailure {
    fileprivate init(_ code: CURLcode, easy: UnsafeMutableRawPointer) {
        words = String(cString: ccurl_error(code))
        isPassing = true
        switch code {
        case CURLE_COULDNT_RESOLVE_HOST:
            words = "its host's name can't be resolved"
            remedy = "see whether the address is right, and whether this host has a name server"
        case CURLE_COULDNT_RESOLVE_PROXY: words = "the name of the proxy can't be resolved"
        case CURLE_COULDNT_CONNECT:
            let number = Int32(ccurl_number(easy, CURLINFO_OS_ERRNO))
            words = "no connection" + (number > 0 ? " (\(Errno(code: number)))" : "")
        case CURLE_OPERATION_TIMEDOUT: words = "the server says nothing"
        case CURLE_PARTIAL_FILE, CURLE_RECV_ERROR, CURLE_GOT_NOTHING, CURLE_HTTP2_STREAM:
            words = "the connection broke off"
        case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR:
            let number = ccurl_number(easy, CURLINFO_SSL_VERIFYRESULT)
            let reason = WebFailure.refusals[number] ?? "reason \(number)"
            words = "the server's certificate can't be trusted" + (number > 0 ? " (\(reason))" : "")
            remedy = "give the CA's certificate with --cacert, if it is a server of your own"
            (isPassing, isAbsence) = (false, false)
        case CURLE_SSL_CONNECT_ERROR: words = "no TLS connection: the server speaks none, or another kind"
        case CURLE_TOO_MANY_REDIRECTS:
            words = "it is redirected more than 10 times, perhaps in a circle"
            isPassing = false
        case CURLE_UNSUPPORTED_PROTOCOL:
            words = "it is redirected to an address that is not safe (no https)"
            remedy = "give the address that it leads to, or say --insecure"
            (isPassing, isAbsence) = (false, false)
        case CURLE_URL_MALFORMAT: (words, isPassing) = ("it is no proper address", false)
        case CURLE_LOGIN_DENIED: (words, isPassing) = ("the server takes no such login", false)
        case CURLE_REMOTE_FILE_NOT_FOUND, CURLE_REMOTE_ACCESS_DENIED, CURLE_FTP_COULDNT_RETR_FILE:
            (words, isPassing, isMissing) = ("the server has no such file", false, true)
        default: words = words.lowercased()
        }
    }

    /// The reasons for a certificate's refusal that users meet, of the many that OpenSSL has.
    private static let refusals: [Int64: String] = [
        9: "it is not yet valid", 10: "it has expired", 18: "it is signed by itself",
        19: "a certificate in its chain is signed by itself", 20: "it is signed by nobody known here",
        21: "it is signed by nobody known here", 62: "it is for another host",
    ]

    init(status: Int) {
        let names = [
            401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 407: "Proxy Authentication Required", 410: "Gone",
            429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
        ]
        words = "the server answers \(status)" + (names[status].map { " \($0)" } ?? "")
        isPassing = status >= 500 || [408, 425, 429].contains(status)
        isMissing = [404, 410].contains(status)
        let remedies = [
            401: "give a login in the address or in ~/.netrc", 403: "see whether it wants a login or --header",
            404: "look at the address once more", 410: "look at the address once more",
        ]
        remedy = remedies[status]
    }
}
