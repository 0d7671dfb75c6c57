# shellcheck shell=sh
# The outer guest, for `run` and `shell`: an emulated machine whose NICs are taps in a network namespace of its own. Sourced,
# with $here set to this folder.
#
#   outer_start [vtd]         boots it, with an emulated VT-d if asked
#   guest [-t SECONDS] TEXT   runs a shell script in it: its output, its standard error, its exit code
#   peer COMMAND...           runs a command in the namespace at the other end of its NICs
#   outer_stop
#
#   0000:00:05.0   virtio-net, legacy (Snabb can drive it)    tap ep0, 10.5.0.1
#   0000:00:06.0   virtio-net, legacy                         tap ep1, 10.6.0.1
#   0000:00:07.0   e1000e; with VT-d for engine=vfio          tap ep2, 10.7.0.1
#   0000:00:08.0   virtio-net, modern, behind the IOMMU       tap ep3, 10.8.0.1
#   0000:01:01.0   e1000, behind a bridge, and                tap ep4, 10.9.0.1
#   0000:01:02.0   another beside it, in one IOMMU group    tap ep5, 10.10.0.1
#
# Debian packages: iproute2 qemu-system-x86 seabios

project=$(cd "$here/../.." && pwd)
image=${E2E_IMAGE:-$project/build/e2e-pci}
namespace=ep-$$
outer_pid=""

fail() { echo "e2e-pci: $*" >&2; exit 3; }
peer() { ip netns exec "$namespace" "$@"; }

outer_start() {
    [ "$(id -u)" -eq 0 ] || fail "network namespaces and taps want root"
    [ -c /dev/net/tun ] || fail "there is no /dev/net/tun"
    for part in image init; do
        [ "$image/initrd" -nt "$here/$part" ] || "$here/image" "$image" || exit
    done
    work=$(mktemp -d "${TMPDIR:-/tmp}/snabbvm-e2e.XXXXXX")
    mkdir "$work/jobs"
    mkfifo "$work/jobs.in" "$work/jobs.out"
    # Open for reading, too, so that a write never waits for a dead QEMU.
    exec 4<>"$work/jobs.in"
    ip netns add "$namespace"
    peer ip link set lo up
    set -- "$@" --
    iommu="" extra=""
    if [ "$1" = vtd ]; then
        shift
        extra="intel_iommu=on"
        iommu=",iommu_platform=on"
        set -- "$@" -device intel-iommu,intremap=on,caching-mode=on,device-iotlb=on
    fi
    shift
    set -- "$@" -device pcie-pci-bridge,id=bridge,addr=9
    number=0
    for device in \
        "virtio-net-pci,addr=5,disable-modern=on" \
        "virtio-net-pci,addr=6,disable-modern=on" \
        "e1000e,addr=7" \
        "virtio-net-pci,addr=8,disable-legacy=on$iommu" \
        "e1000,bus=bridge,addr=1" \
        "e1000,bus=bridge,addr=2"
    do
        tap=ep$number
        peer ip tuntap add "$tap" mode tap vnet_hdr
        peer sysctl -qw "net.ipv6.conf.$tap.disable_ipv6=1" 2>/dev/null || true
        peer ip address add "10.$((number + 5)).0.1/24" dev "$tap"
        peer ip link set "$tap" up
        set -- "$@" -netdev "tap,id=$tap,ifname=$tap,script=no,downscript=no,vhost=off" \
            -device "$device,netdev=$tap,romfile=,mac=52:54:00:e2:e0:0$number"
        number=$((number + 1))
    done
    # Reading any other clock is slow where it is emulated.
    append="console=ttyS0 rdinit=/init quiet panic=-1 no5lvl mitigations=off tsc=reliable clocksource=tsc"
    append="$append iomem=relaxed hugepages=${E2E_HUGEPAGES:-192} $extra ${E2E_APPEND:-}"
    # One vCPU for the switch, which spins under load, and one for the rest.
    # Not by peer: $! is to be QEMU itself, not a shell around it.
    ip netns exec "$namespace" qemu-system-x86_64 -name e2e-outer -nodefaults -no-user-config -display none -no-reboot \
        -machine "q35${iommu:+,kernel-irqchip=split}" -accel tcg,thread=multi,tb-size=512 -cpu "${E2E_CPU:-max}" \
        -smp "${E2E_CPUS:-2}" -m "${E2E_MEMORY:-2048}" \
        -kernel "$image/kernel" -initrd "$image/initrd" \
        -append "$append" \
        -serial "file:$work/console" \
        -chardev "pipe,id=jobs,path=$work/jobs" -serial chardev:jobs \
        -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
        -device virtio-9p-pci,fsdev=host,mount_tag=host,addr=3 \
        -fsdev "local,id=jobs,path=$work/jobs,security_model=none" \
        -device virtio-9p-pci,fsdev=jobs,mount_tag=jobs,addr=4 \
        "$@" >"$work/qemu.log" 2>&1 &
    outer_pid=$!
    waited=0
    while [ ! -e "$work/jobs/booted" ]; do
        kill -0 "$outer_pid" 2>/dev/null || { cat "$work/qemu.log" "$work/console" >&2; fail "the outer guest ended at once"; }
        [ "$waited" -lt 1200 ] || { tail -n 20 "$work/console" >&2; fail "the outer guest did not boot in 2 minutes"; }
        waited=$((waited + 1))
        sleep 0.1
    done
}

# The answer of a job comes as files, which is why it is looked for ten times a second. 124: not done in time.
guest() {
    limit=120
    if [ "$1" = -t ]; then limit=$2; shift 2; fi
    guest_begin "$1"
    guest_end "$limit"
}
guest_begin() { # TEXT: $job
    job=$(mktemp "$work/jobs/XXXXXX")
    job=${job##*/}
    {
        echo "PROJECT=$project SNABBVM=${SNABBVM:-$project/build/bin/snabbvm}"
        echo ". $here/inside.sh"
        printf '%s\n' "$1"
    } >"$work/jobs/$job"
    echo "$job" >&4
}
guest_end() { # LIMIT
    waited=0
    while [ ! -e "$work/jobs/$job.rc" ]; do
        kill -0 "$outer_pid" 2>/dev/null || { echo "the outer guest is gone" >&2; return 99; }
        if [ "$waited" -ge $(($1 * 10)) ]; then
            cat "$work/jobs/$job.out" 2>/dev/null
            cat "$work/jobs/$job.err" >&2 2>/dev/null
            return 124
        fi
        waited=$((waited + 1))
        sleep 0.1
    done
    cat "$work/jobs/$job.out"
    cat "$work/jobs/$job.err" >&2
    return "$(cat "$work/jobs/$job.rc")"
}

outer_stop() {
    [ -z "$outer_pid" ] || { kill -KILL "$outer_pid"; wait "$outer_pid"; } 2>/dev/null
    outer_pid=""
    ip netns del "$namespace" 2>/dev/null
    [ -z "${work:-}" ] || rm -rf "$work"
    work=""
}
outer_post_mortem() {
    tail -n 20 "$work/console" "$work/qemu.log" | sed 's/^/            /' >&2
}
