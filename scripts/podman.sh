#!/bin/sh
# Sees to it that podman is there, for the tests that start one of their own.
#
# One that is installed is used as it is. Otherwise, as root and where apt-get
# can do that, it is installed; no service is started and nothing is configured.
# Prints one line saying which it is; everything else goes to standard error.
# Exits with 1, and says what is missing, when there is none.
set -eu

fail() {
    echo "podman.sh: $*" >&2
    exit 1
}

there() {
    # Its own runtime is a program beside it, which packages only recommend.
    command -v podman >/dev/null 2>&1 &&
        { command -v crun >/dev/null 2>&1 || command -v runc >/dev/null 2>&1; }
}

if ! there; then
    [ "$(id -u)" -eq 0 ] ||
        fail "podman is not installed; install it, or run this as root"
    command -v apt-get >/dev/null 2>&1 ||
        fail "podman is not installed, and there is no apt-get to install it with: install Podman 4 or newer"
    # One at a time: somebody else may be installing it.
    if command -v flock >/dev/null 2>&1; then
        exec 9>"${TMPDIR:-/tmp}/cldpd-podman.lock"
        flock -w 300 9 || fail "another podman.sh has not come to its end in 300 s"
    fi
fi
if ! there; then
    echo "podman.sh: installing podman" >&2
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt() {
        timeout 600 apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >&2 9>&-
    }
    apt update || fail "apt-get update failed"
    apt -y install --no-install-recommends podman || fail "apt-get install podman failed"
    there || fail "podman was installed and cannot be found"
fi
echo "podman: $(podman --version)"
