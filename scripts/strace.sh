#!/bin/sh
# Sees to it that strace is there: a test records with it what the journal writes
# and syncs, and cuts the power at every point of that.
#
# Where it is not installed it is, as root and with apt-get. Prints one line
# saying which it is; everything else goes to standard error. Exits with 1, and
# says what is missing, when there is none or it may not trace.
set -eu

fail() {
    echo "strace.sh: $*" >&2
    exit 1
}

if ! command -v strace >/dev/null 2>&1; then
    [ "$(id -u)" -eq 0 ] ||
        fail "strace is not installed; install it, or run this as root"
    command -v apt-get >/dev/null 2>&1 ||
        fail "strace is not installed, and there is no apt-get to install it with"
    echo "strace.sh: installing strace" >&2
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt() {
        timeout 600 apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >&2
    }
    apt update || fail "apt-get update failed"
    apt -y install --no-install-recommends strace || fail "apt-get install strace failed"
fi
strace -o /dev/null true ||
    fail "strace may not trace here; does this container forbid ptrace?"
echo "strace: $(strace --version | head -n 1)"
