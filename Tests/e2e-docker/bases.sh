# shellcheck shell=bash
# The two images that the Dockerfile begins with. Where no registry can be reached they are made here: Debian by
# debootstrap, and this machine's Swift on this machine's Debian. Sourced; sets $debian_image and $swift_image.

debian_image=$(sed -n 's/^ARG DEBIAN_IMAGE=//p' "$project/Dockerfile")
swift_image=$(sed -n 's/^ARG SWIFT_IMAGE=//p' "$project/Dockerfile")

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# What Debian's slim images leave out.
slim=(--exclude=./var/cache/apt/\* --exclude=./var/lib/apt/lists/\* --exclude=./var/log/\* --exclude=./usr/share/doc/\*
    --exclude=./usr/share/info/\* --exclude=./usr/share/locale/\* --exclude=./usr/share/man/\*)

debian() { # RELEASE PACKAGES: its root file system in $work/RELEASE
    debootstrap --variant=minbase --include="$2" "$1" "$work/$1" >"$work/debootstrap.log" 2>&1 ||
        fail "debootstrap $1: $(tail -n 1 "$work/debootstrap.log")"
}

bases() {
    local swift release
    if ! has_image "$debian_image" && ! docker pull -q "$debian_image" 2>/dev/null; then
        "$project/packages" debootstrap
        debian_image=snabbvm-e2e-debian
        if ! has_image $debian_image; then
            echo "no registry: making an image of Debian 13"
            debian trixie ca-certificates
            tar -C "$work/trixie" "${slim[@]}" -c . | docker import - $debian_image >/dev/null || fail "no $debian_image"
        fi
    fi
    if has_image "$swift_image" || docker pull -q "$swift_image" 2>/dev/null; then return; fi
    swift_image=snabbvm-e2e-swift
    has_image $swift_image && return
    swift=$(readlink -f "$(command -v swift || echo /opt/swift/usr/bin/swift)")
    case $swift in
    */usr/bin/swift*)
        swift=${swift%/usr/bin/*} ;;
    esac
    if [ -z "$swift" ] || [ ! -d "$swift/usr/lib/swift_static" ]; then
        # Debian's own compiler is installed by the build.
        swift_image=$debian_image
        return
    fi
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    "$project/packages" debootstrap
    echo "no registry: making an image of this machine's Swift on Debian $release"
    # What the official image has beside the compiler, since that stands on it.
    debian "$release" ca-certificates,git,libc6-dev,libcurl4,libedit2,libncurses6,libsqlite3-0,libstdc++-12-dev,libxml2,tzdata
    # Debuggers, editors' servers and documents are no part of a build.
    tar -c -C "$work/$release" "${slim[@]}" . -C / --exclude=\*lldb\* --exclude=\*sourcekit\* --exclude=\*clangd\* \
        --exclude=\*docc\* --exclude=\*/share/doc\* --exclude=\*/share/man\* ".$swift/usr" |
        docker import --change "ENV PATH=$swift/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
            - $swift_image >/dev/null || fail "no $swift_image"
}
