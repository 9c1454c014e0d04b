#!/bin/sh
# Sees to it that systemd is there: a test runs one of its own, with the daemon as
# its service.
#
# Where it is not installed it is, as root and with apt-get. Nothing of it is
# started. Prints one line saying which it is; everything else goes to standard
# error. Exits with 1, and says what is missing, when there is none.
set -eu

fail() {
    echo "systemd.sh: $*" >&2
    exit 1
}

if ! [ -x /lib/systemd/systemd ]; then
    [ "$(id -u)" -eq 0 ] ||
        fail "systemd is not installed; install it, or run this as root"
    command -v apt-get >/dev/null 2>&1 ||
        fail "systemd is not installed, and there is no apt-get to install it with"
    echo "systemd.sh: installing systemd" >&2
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt() {
        timeout 600 apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >&2
    }
    apt update || fail "apt-get update failed"
    apt -y install --no-install-recommends systemd || fail "apt-get install systemd failed"
fi
echo "systemd: $(/lib/systemd/systemd --version | head -n 1)"
