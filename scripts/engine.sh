#!/bin/sh
# Sees to it that a docker engine answers, and that curl is there, for the tests
# that need them.
#
# An engine that answers is used as it is. Otherwise, as root: dockerd is
# installed where apt-get can do that, started in the background, and waited
# for. Prints one line saying which engine it is; everything else goes to
# standard error. Exits with 1, and says what is missing, when there is none.
#
#   ENGINE_ROOT=DIR   a private engine with all its files in DIR, at
#                     unix://DIR/docker.sock, instead of the machine's own;
#                     in network and mount namespaces of its own, since two
#                     engines in one take each other's bridge and rules away
#   ENGINE_ARGS=...   further arguments for dockerd
#   ENGINE_WAIT=60    seconds that dockerd has to become ready
set -eu

wait_seconds=${ENGINE_WAIT:-60}
oldest_api=41 # 1.41: engine 20.10

if [ -n "${ENGINE_ROOT:-}" ]; then
    run=$ENGINE_ROOT/exec
    pidfile=$ENGINE_ROOT/docker.pid
    log=$ENGINE_ROOT/dockerd.log
    DOCKER_HOST=unix://$ENGINE_ROOT/docker.sock
    export DOCKER_HOST
    mkdir -p "$ENGINE_ROOT"
else
    run=/var/run/docker
    pidfile=/var/run/docker.pid
    log=/var/log/dockerd.log
fi

say() {
    echo "engine.sh: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

# Runs a command that may hang.
bounded() {
    if command -v timeout >/dev/null 2>&1; then
        timeout 20 "$@"
    else
        "$@"
    fi
}

# Where the engine is looked for.
place() {
    if [ -n "${DOCKER_HOST:-}" ]; then
        echo "$DOCKER_HOST"
    else
        docker context inspect -f '{{.Endpoints.docker.Host}}' 2>/dev/null ||
            echo unix:///var/run/docker.sock
    fi
}

# Prints which engine answers, or fails with the reason in $reason.
answers() {
    if command -v docker >/dev/null 2>&1; then
        if version=$(bounded docker version -f '{{.Server.Version}} {{.Server.APIVersion}}' 2>&1); then
            release=${version%% *}
            api=${version##* }
        else
            reason=$(echo "$version" | tail -n 1)
            return 1
        fi
    elif command -v curl >/dev/null 2>&1; then
        socket=$(place)
        case $socket in
        unix://*) ;;
        *)
            reason="without the docker command only a socket can be asked, not $socket"
            return 1
            ;;
        esac
        if version=$(bounded curl -sS --unix-socket "${socket#unix://}" http://docker/version 2>&1); then
            release=$(echo "$version" | sed -n 's/.*"Version":"\([^"]*\)","ApiVersion".*/\1/p')
            api=$(echo "$version" | sed -n 's/.*"ApiVersion":"\([0-9.]*\)".*/\1/p')
        else
            reason=$version
            return 1
        fi
    else
        reason="neither docker nor curl is there to ask with"
        return 1
    fi
    minor=${api#1.}
    case $minor in
    '' | *[!0-9]*)
        reason="what answers at $(place) names no API version"
        return 1
        ;;
    esac
    if [ "$minor" -lt "$oldest_api" ]; then
        fail "the engine at $(place) speaks API $api; 1.$oldest_api (Docker 20.10) or newer is needed"
    fi
    echo "engine: Docker $release (API $api) at $(place)"
}

# A pid file whose process is gone, or is another program by now, makes
# dockerd refuse to start, or wait for a containerd that is none.
drop_stale() {
    file=$1
    program=$2
    [ -e "$file" ] || return 0
    pid=$(tr -cd '0-9' <"$file")
    # A process that ended and was not waited for has no executable any more.
    executable=$(readlink "/proc/${pid:-0}/exe" 2>/dev/null) || executable=
    executable=${executable% (deleted)}
    if [ "${executable##*/}" = "$program" ]; then
        return 1
    fi
    say "removing $file of a former boot"
    rm -f "$file"
}

# Installs curl, where it is missing and that is possible.
need_curl() {
    if command -v curl >/dev/null 2>&1; then
        return
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        say "curl is not installed: the tests of docs/guide/api.md need it"
        return
    fi
    say "installing curl"
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get -qq update >&2 || fail "apt-get update failed"
    apt-get -qq -y install --no-install-recommends curl >&2 || fail "apt-get install curl failed"
}

# Installs dockerd, where that is possible.
install_engine() {
    if ! command -v apt-get >/dev/null 2>&1; then
        fail "no docker engine answers ($reason), dockerd is not installed, and there is no apt-get to" \
            "install it with: install Docker 20.10 or newer, or set DOCKER_HOST"
    fi
    say "installing docker.io"
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get -qq update >&2 || fail "apt-get update failed"
    apt-get -qq -y install --no-install-recommends docker.io >&2 ||
        fail "apt-get install docker.io failed"
    # Newer Debians have the command in a package of its own.
    if ! command -v docker >/dev/null 2>&1; then
        apt-get -qq -y install --no-install-recommends docker-cli >&2 ||
            say "there is no docker-cli to install; curl has to do"
    fi
}

# Starts dockerd in the background.
start_engine() {
    if drop_stale "$pidfile" dockerd; then
        if drop_stale "$run/containerd/containerd.pid" containerd; then
            rm -f "$run"/containerd/*.sock "$run"/containerd/*.sock.ttrpc
        fi
        rm -f "${pidfile%.pid}.sock"
    else
        fail "dockerd runs (process $pid) but does not answer ($reason): see its log, or stop it"
    fi

    set --
    alone=
    if [ -n "${ENGINE_ROOT:-}" ]; then
        set -- --host "$DOCKER_HOST" --pidfile "$pidfile" --exec-root "$run" \
            --data-root "$ENGINE_ROOT/data"
        alone="unshare --net --mount"
    fi
    say "starting dockerd; its log is $log"
    : >"$log"
    # In a session of its own, with a shell that says when it has ended.
    # $alone and ENGINE_ARGS are words on purpose.
    # shellcheck disable=SC2016,SC2086
    $alone setsid sh -c 'dockerd "$@"; echo "dockerd ended with $?"' dockerd "$@" ${ENGINE_ARGS:-} \
        </dev/null >>"$log" 2>&1 9>&- &
}

# Waits until dockerd says that it listens, has ended, or takes too long. tail
# watches the file; nothing here goes round and round.
await_engine() {
    ended="did not become ready within $wait_seconds s"
    scratch=$(mktemp -d)
    mkfifo "$scratch/lines"
    timeout "$wait_seconds" tail -n +1 -f "$log" >"$scratch/lines" 2>/dev/null 9>&- &
    watcher=$!
    while IFS= read -r line; do
        case $line in
        *"API listen on"*) break ;;
        "dockerd ended with "*)
            ended="did not start"
            break
            ;;
        esac
    done <"$scratch/lines"
    kill "$watcher" 2>/dev/null || true
    rm -rf "$scratch"
    # A daemon that logs less than that is asked all the same.
    if answers; then
        return
    fi
    say "dockerd $ended ($reason); its log ends:"
    tail -n 20 "$log" >&2
    exit 1
}

# The examples of the API's page are run with it.
need_curl
if answers; then
    exit 0
fi
case ${DOCKER_HOST:-} in
"" | "unix:///var/run/docker.sock" | "unix://${ENGINE_ROOT:-/nowhere}/docker.sock") ;;
*) fail "no docker engine answers at DOCKER_HOST=$DOCKER_HOST: $reason" ;;
esac
if [ "$(id -u)" -ne 0 ]; then
    fail "no docker engine answers ($reason); start one, join the group docker if that is what is" \
        "missing, or run this as root"
fi

# One at a time: somebody else may be starting it.
if command -v flock >/dev/null 2>&1; then
    exec 9>"${TMPDIR:-/tmp}/cldpd-engine.lock"
    flock -w 300 9 || fail "another engine.sh has not come to its end in 300 s"
    if answers; then
        exit 0
    fi
fi

if ! command -v dockerd >/dev/null 2>&1; then
    install_engine
    # The package may have started it.
    if answers; then
        exit 0
    fi
fi
if [ -z "${ENGINE_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    say "starting docker.service"
    systemctl start docker.service >&2 || fail "systemctl could not start docker.service"
    answers || fail "docker.service was started and does not answer: $reason"
    exit 0
fi
start_engine
await_engine
