# shellcheck shell=bash
# A Docker engine for the tests: the one that answers, or, on a machine that has none, one of its own from Debian's
# docker.io, ended afterwards. Its own one lives in a network namespace, which is "the host" for its containers: this
# machine's interfaces, routes and rules are not touched. Sourced.
#
#   engine_start       finds or starts it
#   engine_build ARG…  docker build, where the engine reaches the package archive
#   on_host COMMAND…   runs a command on the containers' host
#   engine_stop

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
store=${E2E_STORE:-$project/build/e2e-docker}
namespace="" engine_pid=""

fail() { echo "e2e-docker: $*" >&2; exit 3; }

on_host() {
    if [ -n "$namespace" ]; then nsenter --net="/run/netns/$namespace" -- "$@"; else "$@"; fi
}

# Its own engine: `build` has the machine's network and changes nothing in it; `run` has a network of its own.
own_engine() { # build|run [OPTION…]
    # The engine's mounts stay its own; and it has a containerd of its own, whatever runs here.
    # shellcheck disable=SC2016  # that shell's
    local mode=$1 words=(unshare --mount --propagation private sh -c
        '[ ! -d /run/containerd ] || mount -t tmpfs none /run/containerd; exec "$@"' sh) waited=0
    shift
    engine_end
    if [ "$mode" = run ]; then
        namespace=snabbvm-e2e-$$
        ip netns add "$namespace"
        ip -n "$namespace" link set lo up
        words=(nsenter --net="/run/netns/$namespace" -- "${words[@]}")
    else
        set -- --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false "$@"
    fi
    export DOCKER_HOST=unix://$work/docker.sock
    setsid "${words[@]}" "${before_engine[@]}" dockerd --host "$DOCKER_HOST" --data-root "$store/data" \
        --exec-root "$work/docker" --pidfile "$work/docker.pid" "$@" >"$work/dockerd.log" 2>&1 </dev/null 9>&- &
    engine_pid=$!
    until docker version >/dev/null 2>&1; do
        waited=$((waited + 1))
        if ! kill -0 "$engine_pid" 2>/dev/null || [ "$waited" -gt 600 ]; then
            fail "dockerd does not start: $(tail -n 3 "$work/dockerd.log")"
        fi
        sleep 0.1
    done
}
# What runs dockerd, if it needs something prepared.
before_engine=()

engine_start() {
    if docker version >/dev/null 2>&1; then
        echo "the engine that is here: $(docker version --format '{{.Server.Version}}')"
        is_own=""
        return
    fi
    [ "$(id -u)" -eq 0 ] || fail "no Docker engine answers, and only root can start one"
    command -v dockerd >/dev/null || install_engine || fail "no Docker engine, and none to install"
    is_own=yes
    mkdir -p "$store"
    exec 9>"$store/lock"
    flock -n 9 || fail "another run has its engine in $store"
    own_engine build
    echo "an engine of our own: $(docker version --format '{{.Server.Version}}')"
}

# Installed, it would be started for good.
install_engine() {
    local policy=/usr/sbin/policy-rc.d client="" code
    apt-cache show docker-cli >/dev/null 2>&1 && client=docker-cli
    if [ -e $policy ]; then policy=/dev/null; else install -m 755 /dev/stdin $policy <<<$'#!/bin/sh\nexit 101'; fi
    # shellcheck disable=SC2086  # a word or none
    "$project/packages" docker.io iptables $client
    code=$?
    [ $policy = /dev/null ] || rm -f $policy
    return $code
}

engine_build() {
    local network=()
    [ -z "$is_own" ] || network=(--network host)
    docker build "${network[@]}" "$@"
}

engine_end() {
    [ -n "$engine_pid" ] || return 0
    local daemon
    daemon=$(cat "$work/docker.pid" 2>/dev/null)
    kill "${daemon:-$engine_pid}" 2>/dev/null
    waits 60 eval '! kill -0 "$engine_pid"' || kill -KILL "${daemon:-$engine_pid}"
    wait "$engine_pid" 2>/dev/null
    engine_pid=""
    [ -z "$namespace" ] || ip netns delete "$namespace"
    namespace=""
}

engine_stop() {
    [ -n "$is_own" ] || return 0
    engine_end
}
