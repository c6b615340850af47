#!/bin/sh
# As root: a JupyterLab 4 that other accounts can run, for the tests that switch users. They cannot execute a Python below
# /root, nor perhaps enter this checkout. With --path: only say where it is (or will be).
set -eu
cd "$(dirname "$0")/../.."
lock=packaging/lock/demo.txt
place=/var/tmp/jlabd-tests-$(sha256sum $lock | cut -c 1-12)
if [ "${1-}" = --path ]; then
    echo "$place/lab4"
    exit
fi
[ "$(id -u)" = 0 ] || exit 0

umask 022
mkdir "$place" 2>/dev/null || true
if [ "$(stat -c '%u %a %F' "$place")" != "0 755 directory" ]; then
    echo "$place: not a folder of root's own with mode 0755; somebody else made it. Remove it and run again." >&2
    exit 1
fi
for python in /usr/bin/python3 /usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11; do
    if "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" packaging/venv.py "$place/lab4" $lock
    fi
done
echo "=== SKIPPED: tests that switch users. No Python >= 3.11 with venv in /usr/bin (Debian: apt install python3-venv)" >&2
