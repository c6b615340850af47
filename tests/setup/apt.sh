#!/bin/sh
# What the tests need from the system, by apt. Quick when all is there. Without root or apt: say loudly what is missing
# and which tests will be skipped, and go on; only in CI is a missing package a failure.
set -eu

# file that must exist            package       which tests need it
needed() {
    cat <<'END'
/usr/sbin/nginx                   nginx-light   the system nginx, run as root
/usr/lib/python3*/ensurepip       python3-venv  labs of other users: a Python outside /root
/usr/bin/systemd-nspawn           systemd-container  the service in a booted systemd
/usr/bin/mmdebstrap               mmdebstrap    the system that is booted for that
/usr/bin/qemu-system-x86_64       qemu-system-x86  limits, in an emulated machine
/usr/bin/chromium                 chromium      labs in a real browser
/usr/bin/openssl                  openssl       certificates, for TLS
/usr/bin/curl                     curl          HTTP/2
/usr/bin/faketime                 faketime      jumps of the time of day
/usr/bin/rpmbuild                 rpm           the packages
/usr/bin/createrepo_c             createrepo-c  the repository that they are installed from
/usr/bin/rpmlint                  rpmlint       what distributors ask of packages
/usr/bin/zsh                      zsh           completion in zsh
/usr/bin/fish                     fish          completion in fish
/usr/bin/checkmodule              checkpolicy   the SELinux module
/usr/bin/semodule_package         semodule-utils  the SELinux module
/usr/sbin/semodule                policycoreutils  linking it into a policy
/usr/share/selinux/devel/Makefile  selinux-policy-dev  compiling it with a policy's headers
/usr/bin/sesearch                 setools       what the linked policy allows
/usr/sbin/matchpathcon            selinux-utils  which labels it gives
/usr/bin/mandoc                   mandoc        the manual pages
/usr/bin/promtool                 prometheus    the metrics, the alerts
END
}

missing() { # prints "package what-for" for everything that is not there
    needed | while read -r file package reason; do
        # shellcheck disable=SC2086  # the pattern is meant to be expanded
        [ -z "$file" ] || ls -d $file >/dev/null 2>&1 || echo "$package $reason"
    done
}

install() {
    # No service may be started by the mere installation: nginx would take port 80.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap 'rm -f $policy' EXIT INT TERM HUP
    fi
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # shellcheck disable=SC2086  # a list of package names
    { apt-get -qq update && apt-get -qq install --no-install-recommends -y $1; } </dev/null >"$log" 2>&1 || tail -n 15 "$log" >&2
    rm -f "$log"
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    packages=$(echo "$lacking" | cut -d ' ' -f 1 | tr '\n' ' ')
    echo "installing for the tests, by apt: $packages"
    install "$packages"
    lacking=$(missing)
    [ -n "$lacking" ] || exit 0
fi

echo "=== Tests will be SKIPPED, because the system lacks what they need:" >&2
echo "$lacking" | while read -r package reason; do
    echo "===   package $package: $reason" >&2
done
[ -z "${CI-}" ] || exit 1
