#!/bin/sh
# What the tests need from npm, in .cache/tests/node: the checker of TOML files that editors use. Quick when it is there.
# Without npm: say loudly which tests will be skipped, and go on.
set -eu
cd "$(dirname "$0")/../.."
place=.cache/tests/node
if ! command -v npm >/dev/null; then
    echo "=== Tests will be SKIPPED: no npm (apt install npm), for the configuration file as editors see it" >&2
    exit 0
fi
if ! cmp -s tests/setup/node/package-lock.json "$place/made-from"; then
    rm -rf "$place"
    mkdir -p "$place"
    cp tests/setup/node/package.json tests/setup/node/package-lock.json "$place"
    (cd "$place" && npm ci --silent --ignore-scripts)
    cp tests/setup/node/package-lock.json "$place/made-from"
fi
