import Model

/// tmux's own settings: what a user of the old launcher knows, and the windows.
struct TmuxSettings {
    var name: String
    var session: String
    var program: String
    var base: String
    var firmware: Firmware
    /// Each has a window too.
    var ports: [String] = []

    var text: String {
        let relay = { (stream: String) in
            "\(program.tmuxQuoted) relay \(stream) --name \(name) --run-dir \(base.tmuxQuoted)"
        }
        let windows = [StreamName.serial.rawValue, StreamName.log.rawValue] + ports
        let rest = windows.map { "new-window -d -t =\(session): -n \($0) \(relay($0))" }
        // UEFI draws pixels, which a terminal can't show; its serial console says the same.
        let first = firmware == .uefi ? ["select-window -t =\(session):serial"] : []
        return
            ([
                "set -g default-terminal screen-256color", "set -g history-limit 20000", "set -s escape-time 50",
                "set -g update-environment ''", "set -g window-size latest", "set -g mouse off",
                "set -g status-left '[#S] '", "set -g status-left-length 40", "set -g status-right-length 60",
                "set -g status-right 'C-b n next window, C-b [ scroll '",
                "set -g window-status-separator ' '", "set -g set-titles on",
                "set -g set-titles-string 'snabbvm #S: #W'",
                "new-session -d -x 80 -y 25 -s \(session) -n screen \(relay(StreamName.screen.rawValue))",
            ] + rest + first).joined(separator: "\n") + "\n"
    }
}

extension String {
    fileprivate var tmuxQuoted: String {
        "'" + split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'"'"'"#) + "'"
    }
}
