# shellcheck shell=sh
# A fresh Debian in $root, for the tests that want one; $work is for logs. Sourced, in a mount namespace that ends with
# the test. The fresh Debian takes its packages from where this machine's apt takes them.

# Runs while the fresh Debian still has this machine's network.
installing() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
    http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" "$@"; }
get() { installing apt-get -y -q --no-install-recommends "$@"; }

# This machine's sources of Debian, as REPOSITORY SUITE COMPONENT, with the release in place of the machine's own.
sources() { # RELEASE
    own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
        sed -n "s/^\([^ ]*\) $own\([- ]\)/\1 $1\2/p" | sort -u
}

# Both end with 1, and the reason in $why, where they can't.
finds_archive() { # RELEASE
    mirror=$(sources "$1" | awk -v release="$1" '$2 == release { print $1; exit }')
    [ -n "$mirror" ] || { why="apt has no source of Debian $1: apt-get update"; return 1; }
    [ -n "${http_proxy:-}" ] || http_proxy=$(apt-config shell proxy Acquire::http::Proxy | sed "s/^proxy='\(.*\)'$/\1/")
    export http_proxy
    /usr/lib/apt/apt-helper download-file "${mirror%/}/dists/$1/InRelease" "$work/InRelease" >"$work/archive.log" 2>&1 ||
        { why="no archive of Debian $1: $(tail -n 1 "$work/archive.log")"; return 1; }
}

fresh_debian() { # RELEASE
    mkdir "$root"
    debootstrap --variant=minbase "$1" "$root" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        { why="debootstrap $1: $(tail -n 3 "$work/debootstrap.log")"; return 1; }
    sources "$1" | sed 's/^/deb /' >"$root/etc/apt/sources.list"
    # How long an index is good for, too, where a mirror stands still.
    apt-config dump | grep -E '^Acquire::(http|https|Check-Valid-Until|Check-Date)[: ]' >"$root/etc/apt/apt.conf.d/99host"
    # No service is started by its installation.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
}

# Becomes process 1 of the fresh Debian, with mounts, processes and a network of its own, and the few devices that it
# may use. It ends with whoever started it, and with it all that runs in there.
become_init() { # PROGRAM…
    exec setpriv --pdeathsig KILL unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child \
        sh -c "$in_namespaces" init "$root" "$@"
}
in_namespaces='
set -e
root=$1
shift
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup" || true
mount -t tmpfs -o mode=755 dev "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/net"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for device in null zero full random urandom tty net/tun; do
    [ -e "/dev/$device" ] || continue
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t tmpfs -o mode=755 run "$root/run"
ip link set lo up
hostname fresh
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
'
