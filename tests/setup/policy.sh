#!/bin/sh
# Debian's SELinux policy as files, not installed: what packaging/selinux is linked into by the tests. Once, in a second.
# With --path: only say where it is (or will be).
set -eu
cd "$(dirname "$0")/../.."
place=.cache/selinux-policy
if [ "${1-}" = --path ]; then
    echo "$PWD/$place"
    exit
fi
[ ! -d $place ] || exit 0
command -v semodule >/dev/null && command -v apt-get >/dev/null || exit 0
mkdir -p .cache
new=$(mktemp -d .cache/policy-XXXXXX)
trap 'rm -rf "$new"' EXIT
trap 'exit 1' INT TERM HUP
(cd "$new" && apt-get -qq -o APT::Sandbox::User=root download selinux-policy-default) && dpkg -x "$new"/*.deb "$new/files"
mv "$new/files" $place
