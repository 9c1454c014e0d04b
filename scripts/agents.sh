#!/bin/sh
# Sees to it that the engine has an image of each real agent that is tested, in
# the version that tests/agents/pins names: the command as npm has it, bash,
# busybox and what they need of Debian, and nothing else.
#
# An image that is there and was made by this very recipe is used as it is.
# What is downloaded is kept in target/agents. Prints one line for each image;
# everything else goes to standard error. Exits with 1, and says what is
# missing, when one cannot be made.
#
#   scripts/agents.sh [AGENT...]    all, without any
set -eu
cd "$(dirname "$0")/.."

pins=tests/agents/pins
store=${CARGO_TARGET_DIR:-target}/agents
# In the image: what the agents and their tools need.
debian="bash busybox-static libc-bin libc6 libtinfo6 libgcc-s1 libstdc++6"

say() {
    echo "agents.sh: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

case $(uname -m) in
x86_64) arch=x64 ;;
aarch64) arch=arm64 ;;
*) fail "the agents are to be had for x86_64 and aarch64, not for $(uname -m)" ;;
esac
command -v docker >/dev/null 2>&1 || fail "images are imported with the docker command, which is not installed"
recipe=$(cat scripts/agents.sh "$pins" | cksum | tr ' ' -)

apt() {
    DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq -o DPkg::Lock::Timeout=300 -o APT::Sandbox::User=root "$@" >&2 9>&-
}

need_npm() {
    if command -v npm >/dev/null 2>&1; then
        return
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        fail "npm is not installed: install it, or run this as root where there is apt-get"
    fi
    say "installing npm"
    apt update || fail "apt-get update failed"
    apt -y install --no-install-recommends npm || fail "apt-get install npm failed"
}

# Has npm put a package into the store, and unpacks it below $1.
npm_package() {
    into=$1
    package=$2
    kept=$store/npm/$(echo "$package" | tr '/@' '__').tgz
    if [ ! -f "$kept" ]; then
        need_npm
        say "downloading $package"
        fresh=$store/npm/fresh
        rm -rf "$fresh"
        mkdir -p "$fresh"
        npm pack --loglevel error --cache "$store/npm/cache" --pack-destination "$fresh" "$package" >&2 ||
            fail "npm cannot be asked for $package: is its registry to be reached from here?" \
                "'npm ping' tells more. The agents' tests cannot be run without it"
        mv "$fresh"/*.tgz "$kept"
        rm -rf "$fresh" "$store/npm/cache"
    fi
    mkdir -p "$into"
    tar -xzf "$kept" -C "$into" --strip-components 1 || {
        rm -f "$kept"
        fail "$kept was broken; it is removed: try again"
    }
}

# A root with a shell in it, once.
base() {
    base=$store/base
    if [ "$(cat "$base.recipe" 2>/dev/null)" = "$recipe" ]; then
        return
    fi
    command -v dpkg-deb >/dev/null 2>&1 ||
        fail "the images are made of Debian's packages, with dpkg-deb and apt-get, which are not installed"
    rm -rf "$base" "$store/debian"
    mkdir -p "$base" "$store/debian"
    say "downloading $debian"
    download() {
        # $debian is words on purpose.
        # shellcheck disable=SC2086
        (cd "$store/debian" && apt download $debian)
    }
    download || { apt update && download; } || fail "apt-get cannot download $debian"
    for dir in usr/bin usr/lib usr/lib64 etc tmp home opt/agents proc sys dev run; do
        mkdir -p "$base/$dir"
    done
    for dir in bin lib lib64; do
        ln -s "usr/$dir" "$base/$dir"
    done
    for package in "$store"/debian/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$base" \
            --exclude './usr/share/*' --exclude './usr/lib/*/gconv/*'
    done
    chmod 1777 "$base/tmp"
    ln -sf bash "$base/usr/bin/sh"
    for applet in $("$base/bin/busybox" --list); do
        [ -e "$base/usr/bin/$applet" ] || ln -s busybox "$base/usr/bin/$applet"
    done
    printf 'root:x:0:0::/root:/bin/bash\nagent:x:1000:1000::/home/agent:/bin/bash\n' >"$base/etc/passwd"
    printf 'root:x:0:\nagent:x:1000:\n' >"$base/etc/group"
    echo "$recipe" >"$base.recipe"
}

# Lays the command $1 of the unpacked packages below $2 as /opt/agents/$1.
lay() {
    agents=$2/opt/agents
    package=$2/package
    case $1 in
    claude) mv "$package"/*/claude "$agents/claude" ;;
    codex)
        mkdir -p "$2/usr/lib/codex"
        # Beside its own tools, where it looks for them.
        for part in bin codex-path; do
            cp -a "$package"/*/vendor/*/"$part" "$2/usr/lib/codex/"
        done
        ln -s /usr/lib/codex/bin/codex "$agents/codex"
        ;;
    opencode) mv "$package"/*/bin/opencode "$agents/opencode" ;;
    gemini)
        mv "$package"/node-*/bin/node "$2/usr/bin/node"
        mv "$package"/gemini-cli* "$2/usr/lib/gemini"
        printf '#!/bin/sh\nexec node /usr/lib/gemini/bundle/gemini.js "$@"\n' >"$agents/gemini"
        ;;
    *) fail "no recipe for $1" ;;
    esac
    [ -L "$agents/$1" ] || chmod 755 "$agents/$1"
    rm -rf "$package"
}

image() {
    agent=$1
    version=$2
    packages=$3
    name=cldpd-agent-$agent:$version
    made=$(docker image inspect -f '{{index .Config.Labels "cldpd.recipe"}}' "$name" 2>/dev/null) || made=
    if [ "$made" != "$recipe" ]; then
        base
        root=$store/root-$agent
        rm -rf "$root"
        cp -a "$store/base" "$root"
        for package in $packages; do
            package=$(echo "$package" | sed "s/ARCH/$arch/")
            npm_package "$root/package/${package##*/}" "$package"
        done
        lay "$agent" "$root"
        say "importing $name"
        old=$(docker image ls --quiet "cldpd-agent-$agent")
        tar -C "$root" --numeric-owner --owner=0 --group=0 -c . | docker import \
            --change "LABEL cldpd.recipe=$recipe" \
            --change "ENV PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/agent" \
            --change "CMD [\"/bin/bash\"]" - "$name" >/dev/null || fail "$name cannot be imported"
        rm -rf "$root"
        # $old is words on purpose. What somebody still uses stays.
        # shellcheck disable=SC2086
        [ -z "$old" ] || docker image rm $old >/dev/null 2>&1 || true
    fi
    echo "agent: $agent $version, image $name"
}

mkdir -p "$store/npm"
# One at a time: somebody else may be making them.
if command -v flock >/dev/null 2>&1; then
    exec 9>"${TMPDIR:-/tmp}/cldpd-agents.lock"
    flock -w 900 9 || fail "another agents.sh has not come to its end in 900 s"
fi
grep -v '^#' "$pins" >"$store/pins"
while read -r agent version packages; do
    case " ${*:-$agent} " in
    *" $agent "*) image "$agent" "$version" "$packages" </dev/null ;;
    esac
done <"$store/pins"
