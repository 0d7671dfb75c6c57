# shellcheck shell=sh
# What the jobs in the outer guest have at hand. Sourced before each, with $PROJECT and $SNABBVM set.

demo=$PROJECT/build/share/snabbvm
pci=/sys/bus/pci/devices
# What the demo kernel spends its time on when it is emulated.
quick="console=ttyS0 quiet no5lvl nokaslr mitigations=off cryptomgr.notests tsc=reliable audit=0 apparmor=0"
vm=${VM:-vm}
within=""

command_register() { od -An -tx2 -j4 -N2 "$pci/$1/config" | tr -d ' '; }
bus_master() { [ $((0x$(command_register "$1") & 4)) -ne 0 ]; }
driver_of() { if [ -e "$pci/$1/driver" ]; then basename "$(readlink "$pci/$1/driver")"; else echo none; fi; }
netdev_of() { for netdev in "$pci/$1"/net/* "$pci/$1"/virtio*/net/*; do [ ! -e "$netdev" ] || echo "${netdev##*/}"; done; }
is_up() { [ $(($(cat "/sys/class/net/$1/flags") & 1)) -ne 0 ]; }
iommu_type() { cat "$pci/$1/iommu_group/type"; }
unbind() { echo "$1" >"$pci/$1/driver/unbind"; }

# A name that the kernel does not give by itself, as udev does it.
name_it() { # PCI NAME [up]
    ip link set "$(netdev_of "$1")" name "$2"
    [ -z "${3:-}" ] || ip link set "$2" up
}

# All that is to be as before once a NIC is given back, as one line.
nic_state() { # PCI...
    for address in "$@"; do
        name=$(netdev_of "$address")
        up=down
        [ -z "$name" ] || ! is_up "$name" || up=up
        master=off
        ! bus_master "$address" || master=on
        type=""
        [ ! -e "$pci/$address/iommu_group" ] || type=", iommu $(iommu_type "$address")"
        echo "$address $(driver_of "$address") ${name:-no-netdev} $up, bus master $master," \
            "override $(cat "$pci/$address/driver_override")$type"
    done
}

until_true() { # SECONDS COMMAND...: looks ten times a second
    tries=$(($1 * 10))
    shift
    while ! "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

# The inner guest: its eth1, eth2… get the addresses in this order, and it listens: on port 2000 a shell, on 2001 what takes
# the digest of all it is sent, on 2002 what sends $1 megabytes that both sides can compute.
vm_begin() { # ADDRESSES OPTIONS AND PORTS...: in the background
    cat >"/e2e/$vm.user-data" <<END
#!/bin/sh
number=1
for address in $1; do
    ip address add \$address/24 dev eth\$number
    number=\$((number + 1))
done
printf '#!/bin/sh\nexec sha256sum\n' >/digest
printf '#!/bin/sh\nexec seq 1 400000\n' >/numbers
chmod 755 /digest /numbers
nc -ll -p 2000 -e /bin/sh &
nc -ll -p 2001 -e /digest &
nc -ll -p 2002 -e /numbers &
END
    shift
    rm -f "/e2e/$vm.pid" "/e2e/$vm.code"
    (
        sh -c "echo \$\$ >/e2e/$vm.pid"'; exec "$@"' launcher $within "$SNABBVM" --share-dir "$demo" --name "$vm" \
            --accel "${ACCEL:-kvm}" -m 128 --hugepages off --vnc off --kernel "$demo/demo-kernel" \
            --initrd "$demo/demo-initrd" --append "$quick" -u "/e2e/$vm.user-data" "$@" >"/e2e/$vm.log" 2>&1
        echo $? >"/e2e/$vm.code"
    ) &
    until_true 5 test -s "/e2e/$vm.pid"
}
vm_pid() { cat "/e2e/$vm.pid"; }
vm_ended() { [ -e "/e2e/$vm.code" ]; }
vm_ready() { grep -q 'user-data script ended with' "/e2e/$vm.log"; }
vm_ready_or_ended() { vm_ready || vm_ended; }
vm_wait() { # SECONDS: until its script has run
    until_true "$1" vm_ready_or_ended
    vm_ready || { tail -n 30 "/e2e/$vm.log"; return 1; }
}
vm_end() { # SECONDS: until the launcher has ended; the code it ended with
    until_true "$1" vm_ended || { echo "still running"; return 1; }
    cat "/e2e/$vm.code"
}
children() { # PID: it and all below it
    echo "$1"
    for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do children "$child"; done
}
# The launcher, the switches and their "sup" children, and QEMU, before any of them can react.
vm_kill_all() {
    all=$(children "$(vm_pid)")
    # shellcheck disable=SC2046,SC2086
    kill -STOP $all && kill -KILL $all
    until_true 10 vm_ended
    for process in $all; do until_true 10 test ! -e "/proc/$process"; done
}
# Nothing of snabbvm, Snabb, QEMU is left.
leftovers() {
    for process in /proc/[0-9]*; do
        name=$(readlink "$process/exe") || continue
        case $name in
            */snabb | */qemu-system-* | */snabbvm | */dpdk-testpmd) echo "${process#/proc/} $(tr '\0' ' ' <"$process/cmdline" | cut -c 1-60)" ;;
        esac
    done
    find /run/snabbvm -type s -o -type p -o -name '*.ledger' 2>/dev/null
}
# What a machine that does not get on is at.
doing() { # NAME
    tail -n 3 "/e2e/$1.log"
    for process in $(children "$(cat "/e2e/$1.pid")"); do
        echo "$process $(cat "/proc/$process/wchan") $(tr '\0' ' ' <"/proc/$process/cmdline" | cut -c 1-60)"
    done
}
