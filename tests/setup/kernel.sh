#!/bin/sh
# The Linux that tests/packaging boots in an emulated machine, where cgroup v2 has its controllers whatever this machine
# does with them: Debian's small one for clouds, which has the emulated disk's driver built in and needs no initrd.
# Downloaded by apt, which checks its signature, and unpacked beside the other things that tests need; once, in seconds.
#   kernel.sh           make it if it is not there yet
#   kernel.sh --path    only say where it is (or will be)
set -eu
umask 022
version=$(sha256sum "$(dirname "$0")/kernel.sh" | cut -c 1-12)
place=/var/tmp/jlabd-tests-kernel-$version
if [ "${1-}" = --path ]; then
    echo "$place/vmlinuz"
    exit
fi
[ "$(id -u)" = 0 ] || exit 0
if ! command -v qemu-system-x86_64 >/dev/null || ! command -v apt-get >/dev/null; then
    echo "=== SKIPPED: tests of limits with real controllers. They need QEMU and apt (apt install qemu-system-x86)" >&2
    exit 0
fi
mkdir "$place" 2>/dev/null || true
if [ "$(stat -c '%u %a %F' "$place")" != "0 755 directory" ]; then
    echo "$place: not a folder of root's own with mode 0755; somebody else made it. Remove it and run again." >&2
    exit 1
fi
exec 9>"$place/lock"
flock 9
[ ! -e "$place/vmlinuz" ] || exit 0
new=$place/new
rm -rf "$new"
mkdir "$new"
trap 'rm -rf "$new"' EXIT
cd "$new"
echo "$place: fetching a Linux to emulate"
package=$(apt-cache depends --no-recommends --no-suggests linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
apt-get -qq -o APT::Sandbox::User=root download "$package"
dpkg-deb --extract ./*.deb .
mv boot/vmlinuz-* "$place/vmlinuz"
