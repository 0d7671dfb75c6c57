import Model
import Values

/// tmux's own settings: what a user of the old launcher knows, and the windows, each port's too.
struct TmuxSettings {
    let text: String

    init(_ arguments: Arguments, _ findings: Findings, ports: [String]) {
        let session = findings.folders.tmuxSession
        let command = "\(findings.programPath.tmuxQuoted) relay"
        let place = "--name \(arguments.name) --run-dir \(findings.folders.base.tmuxQuoted)"
        let windows = [StreamName.serial.rawValue, StreamName.log.rawValue] + ports
        let rest = windows.map { "new-window -d -t =\(session): -n \($0) \(command) \($0) \(place)" }
        // UEFI draws pixels, which a terminal can't show; its serial console says the same.
        let first = arguments.firmware == .uefi ? ["select-window -t =\(session):serial"] : []
        let settings = [
            "set -g default-terminal screen-256color", "set -g history-limit 20000", "set -s escape-time 50",
            "set -g update-environment ''", "set -g window-size latest", "set -g mouse off",
            "set -g status-left '[#S] '", "set -g status-left-length 40", "set -g status-right-length 60",
            "set -g status-right 'C-b n next window, C-b [ scroll '",
            "set -g window-status-separator ' '", "set -g set-titles on",
            "set -g set-titles-string 'snabbvm #S: #W'",
            "new-session -d -x 80 -y 25 -s \(session) -n screen \(command) \(StreamName.screen.rawValue) \(place)",
        ]
        text = (settings + rest + first).text
    }
}

extension String {
    fileprivate var tmuxQuoted: String {
        "'" + split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'"'"'"#) + "'"
    }
}
