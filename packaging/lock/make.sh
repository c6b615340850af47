#!/bin/sh
# Make the lock files again: sh packaging/lock/make.sh UV [--upgrade]
# Pins stay as they are where they still fit; --upgrade takes the newest releases. One file for each stage, every one with
# the same pins as the stage before, so that a stage can be installed on top of another. Extras stay in the pins: without
# them pip 23 takes “coverage[toml]” for something that is not pinned as soon as there is a newer coverage.
set -eu
uv=$1
shift
cd "$(dirname "$0")/../.."
lock=packaging/lock

compile() { # OUTPUT SOURCE…
    output=$lock/$1
    shift
    "$uv" pip compile --quiet --universal --no-strip-extras --generate-hashes --python-version 3.11 \
        --custom-compile-command "make lock" --output-file "$output" "$@"
    echo "$output: $(grep -c '^[A-Za-z0-9]' "$output") packages"
}

compile runtime.txt "$@" pyproject.toml
compile demo.txt "$@" pyproject.toml --extra demo $lock/build.in --constraint $lock/runtime.txt
compile test.txt "$@" pyproject.toml --extra demo --extra test $lock/build.in --constraint $lock/demo.txt
compile lab3.txt "$@" $lock/lab3.in
compile bench.txt "$@" $lock/bench.in
