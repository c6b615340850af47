#!/bin/sh
# As root: a small Debian 12 with systemd 252, the oldest that jlabd supports, for the tests that boot one (tests/packaging).
# From this machine's own Debian mirror, once, in about a minute. With --path: only say where it is (or will be).
set -eu
umask 022
here=$(dirname "$0")
place=/var/tmp/jlabd-tests-root-$(sha256sum "$here/bootroot.sh" | cut -c 1-12)
if [ "${1-}" = --path ]; then
    echo "$place/root"
    exit
fi
[ "$(id -u)" = 0 ] || exit 0
if ! command -v mmdebstrap >/dev/null || ! command -v systemd-nspawn >/dev/null; then
    echo "=== SKIPPED: tests in a booted systemd. They need mmdebstrap and systemd-nspawn (apt install mmdebstrap systemd-container)" >&2
    exit 0
fi

mkdir "$place" 2>/dev/null || true
if [ "$(stat -c '%u %a %F' "$place")" != "0 755 directory" ]; then
    echo "$place: not a folder of root's own with mode 0755; somebody else made it. Remove it and run again." >&2
    exit 1
fi
exec 9>"$place/lock"
flock 9
[ ! -d "$place/root" ] || exit 0

# An ordinary account; without units that only cost time, or wait for what a container does not have.
masked='systemd-networkd-wait-online.service systemd-networkd.service systemd-networkd.socket systemd-firstboot.service
    console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer'
finish='chroot "$1" useradd --create-home ann; cd "$1"; : >etc/machine-id; for unit in '"$(echo $masked)"'; do ln -sf /dev/null "etc/systemd/system/$unit"; done'
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
new=$place/new
rm -rf --one-file-system "$new"
trap 'rm -rf --one-file-system "$new"' EXIT
trap 'exit 1' INT TERM HUP
echo "$place: making a Debian 12 to boot, from $mirror (about a minute)"
mmdebstrap --quiet --variant=minbase --mode=root --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include=systemd,systemd-sysv,dbus,libpam-systemd,python3,procps \
    --customize-hook="$finish" bookworm "$new" "$mirror"
mv "$new" "$place/root"
echo "$place: made"
