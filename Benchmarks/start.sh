# shellcheck shell=bash
# What Benchmarks/run and Benchmarks/compare have in common; they source it, with $here set to this folder.

share=$here/../build/share/snabbvm
limit=180 # seconds that a start, and a boot, may take
launcher=""

# A program's last words come after what is said of it.
fail() { # WHAT [FILE…]
    local file
    echo "Benchmarks/${0##*/}: $1" >&2
    for file in "${@:2}"; do [ ! -s "$file" ] || tail -n 5 "$file" | tr -d '\r' | sed 's/^/    /' >&2; done
    exit 1
}
need() { command -v "$1" >/dev/null || fail "$1 is missing (apt-get install $2)"; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/snabbvm-bench-XXXXXX") || fail "no folder to work in"
cleanup() {
    [ -z "$launcher" ] || { kill -KILL "$launcher"; wait "$launcher"; } 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' HUP INT TERM
chmod 755 "$work"
mkfifo "$work/ended"
exec 9<>"$work/ended"
export BENCHMARK_STARTED=$work/started
# Nor are the settings of whoever calls this measured.
for name in "${!SNABBVM_@}"; do unset "$name"; done

# The same machine on every host: whatever hugepages, networks and other machines it has.
machine_options=(
    --name bench --run-dir "$work/run" --scratch "$work/disks" --share-dir "$share" --vnc off --accel tcg --net user
    --hugepages off
)

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
quotient() { awk "BEGIN {printf \"%.${3:-2}f\", $1 / $2}"; } # A B [DIGITS]

# Microseconds from a command's start to the start of qemu-stub by it, or by what it leaves running.
until_started() { # COMMAND…
    local began code tries=0 runner
    rm -f "$BENCHMARK_STARTED"
    {
        began=${EPOCHREALTIME/./}
        "$@" >"$work/words" 2>&1 </dev/null 9>&-
        echo "$began $?" >&9
    } &
    runner=$!
    disown
    read -r -t "$limit" -u 9 began code || {
        kill -KILL $(cat "/proc/$runner/task/$runner/children") "$runner"
        fail "${1##*/} does not end within $limit s" "$work/words"
    }
    until [ -e "$BENCHMARK_STARTED" ]; do
        tries=$((tries + 1))
        [ $tries -le 1000 ] || fail "${1##*/} ended with $code, and QEMU was not started" "$work/words"
        sleep 0.01
    done
    echo $(($(<"$BENCHMARK_STARTED") - began))
}

# The demo machine, until its guest is up and its launcher has nothing more to do.
boot_demo() { # PROGRAM
    local end=$((SECONDS + limit))
    "$1" "${machine_options[@]}" -m 256 -u "$work/user-data" demo >"$work/serial" 2>"$work/words" </dev/null 9>&- &
    launcher=$!
    until grep -q 'snabbvm demo: ready' "$work/serial"; do
        if ! kill -0 "$launcher" 2>/dev/null; then
            wait "$launcher"
            local code=$?
            launcher=""
            fail "${1##*/} ended with $code before its guest was up" "$work/serial" "$work/words"
        fi
        [ $SECONDS -lt $end ] || fail "the guest is not up within $limit s" "$work/serial" "$work/words"
        sleep 0.2
    done
    sleep 2
}
end_demo() { # PROGRAM
    timeout 60 "$1" stop --now --name bench --run-dir "$work/run" >"$work/stopped" 2>&1 ||
        fail "${1##*/} stop failed with $?" "$work/stopped" "$work/words"
    wait "$launcher" || fail "${1##*/} ended with $?" "$work/words"
    launcher=""
}
