# What Benchmarks/switch and Benchmarks/switch-times have in common; they source it.

# The last words of what was running come after what is said of it.
fail() { # WHAT
    echo "Benchmarks/${0##*/}: $*" >&2
    [ -z "${work:-}" ] || tail -n 5 "$work/guest" "$work/switch" "$work/vm.sock.log" "$work/errors" 2>/dev/null >&2
    exit 1
}
command -v snabb >/dev/null || { echo "Benchmarks/${0##*/}: snabb is not on PATH: nothing to measure"; exit 0; }
command -v dpdk-testpmd >/dev/null || fail "dpdk-testpmd is missing (apt-get install dpdk-dev)"
[ "$(id -u)" = 0 ] || fail "Snabb needs root"

# Two processors, the first two unless others are given.
allowed=$(awk '/^Cpus_allowed_list/ {
    n = split($2, ranges, ",")
    for (i = 1; i <= n; i++) { m = split(ranges[i], ends, "-"); for (c = ends[1]; c <= ends[m]; c++) printf "%d ", c }
}' /proc/self/status)
set -- ${CPUS:-$allowed}
[ $# -ge 2 ] || fail "two processors are needed, each for one process"
switch_cpu=$1 guest_cpu=$2

work=$(mktemp -d "${TMPDIR:-/var/tmp}/snabbvm-bench-XXXXXX")
export SNABB_SHM_ROOT="$work/shm"
trap 'exit 130' HUP INT TERM

# The words of testpmd. It would keep what it has to say, if it were not for stdbuf.
testpmd_words() { # CPU VDEV
    echo "stdbuf -oL dpdk-testpmd --lcores 0@$1,1@$1 --no-pci --no-telemetry --no-shconf --iova-mode=va --no-huge" \
        "-m 256 --vdev $2 --single-file-segments -- --no-mlockall --total-num-mbufs=16384 --forward-mode=io" \
        "--port-topology=loop --no-flush-rx"
}
testpmd_switch_words() { testpmd_words "$switch_cpu" "net_vhost0,iface=$work/vm.sock,client=1"; }

port_settings() { # FURTHER ONES
    printf '{"name":"bench","socket":"%s","cpu":%s,"device":{"kind":"wire","interface":"wire"}%s}\n' \
        "$work/vm.sock" "$switch_cpu" "$1" >"$work/port.json"
}
