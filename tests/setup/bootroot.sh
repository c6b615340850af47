#!/bin/sh
# As root: small Debians for the tests that boot one (tests/packaging), from this machine's own mirror, once, in about a
# minute each: bookworm has systemd 252, the oldest that jlabd supports and that of EL 9, trixie has the 257 of EL 10.
#   bootroot.sh [SUITE…]        make what is not there yet; all of them if none is named
#   bootroot.sh --path SUITE    only say where it is (or will be)
set -eu
umask 022
here=$(dirname "$0")
version=$(sha256sum "$here/bootroot.sh" | cut -c 1-12)
place_of() {
    echo "/var/tmp/jlabd-tests-$1-$version"
}
if [ "${1-}" = --path ]; then
    echo "$(place_of "$2")/root"
    exit
fi
[ "$(id -u)" = 0 ] || exit 0
if ! command -v mmdebstrap >/dev/null || ! command -v systemd-nspawn >/dev/null; then
    echo "=== SKIPPED: tests in a booted systemd. They need mmdebstrap and systemd-nspawn (apt install mmdebstrap systemd-container)" >&2
    exit 0
fi

# Units that only cost time, or wait for what a container does not have.
masked='systemd-networkd-wait-online.service systemd-networkd.service systemd-networkd.socket systemd-firstboot.service
    console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
    dnf-makecache.timer'
# An ordinary account; and what EL does its own way: nginx has an account of that name and does not start by itself, like
# anything else that is installed.
finish='chroot "$1" useradd --create-home ann
chroot "$1" systemctl --quiet disable nginx
cd "$1"
: >etc/machine-id
echo "server { listen 80; server_name _; root /usr/share/nginx/html; }" >etc/nginx/sites-available/default
sed -i "s/^user .*/user nginx;/" etc/nginx/nginx.conf
mkdir -p etc/rpm usr/lib/systemd/system-preset
echo "%_dbpath /var/lib/rpm" >etc/rpm/macros
echo "disable *" >usr/lib/systemd/system-preset/99-default-disable.preset
for unit in '$(echo $masked)'; do ln -sf /dev/null etc/systemd/system/$unit; done'

make_root() { # SUITE PLACE
    packages=systemd,systemd-sysv,dbus,libpam-systemd,python3,procps,nginx-light,rpm
    [ "$1" != bookworm ] || packages=$packages,dnf,policycoreutils # newer Debians have no dnf
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    new=$2/new
    rm -rf --one-file-system "$new"
    trap 'rm -rf --one-file-system "$new"' EXIT
    trap 'exit 1' INT TERM HUP
    echo "$2: making a Debian $1 to boot, from $mirror (about a minute)"
    mmdebstrap --quiet --variant=minbase --mode=root --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include="$packages" --customize-hook="$finish" "$1" "$new" "$mirror"
    mv "$new" "$2/root"
    echo "$2: made"
}

for suite in ${*:-bookworm trixie}; do
    place=$(place_of "$suite")
    mkdir "$place" 2>/dev/null || true
    if [ "$(stat -c '%u %a %F' "$place")" != "0 755 directory" ]; then
        echo "$place: not a folder of root's own with mode 0755; somebody else made it. Remove it and run again." >&2
        exit 1
    fi
    (
        flock 9
        [ -d "$place/root" ] || make_root "$suite" "$place"
    ) 9>"$place/lock"
done
