"""A repository of RPMs that a key made for the purpose has signed: jlabd in two versions, and what it needs of EL.

The Debian that is booted has all of that, but its package manager does not know by EL's names. `el-base` says so, and
brings what EL's systemd does when units, groups or folders come with a package.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile

from tests.packaging.booted import TOP

NEXT = ".1"
"""What the next version has at its end."""

BASE = """
Name: el-base
Version: {release}
Release: 1
Summary: What EL has, here by other names
License: BSD-3-Clause
BuildArch: noarch
AutoReqProv: no
Provides: systemd = {systemd}
Provides: python3.12 = 3.12.1
Provides: policycoreutils = 3.6
Provides: /usr/bin/python3.12 /bin/sh
{libraries}
%description
What EL has, here by other names.
%install
mkdir -p %{{buildroot}}/usr/lib/systemd
cp {helper} %{{buildroot}}/usr/lib/systemd/systemd-update-helper
%files
%attr(0755, root, root) /usr/lib/systemd/systemd-update-helper
%transfiletriggerin -P 1000700 -- /usr/lib/sysusers.d
systemd-sysusers
%transfiletriggerin -P 1000500 -- /usr/lib/tmpfiles.d
systemd-tmpfiles --create
%transfiletriggerin -P 900900 -- /usr/lib/systemd/system /etc/systemd/system
/usr/lib/systemd/systemd-update-helper system-reload-restart
%transfiletriggerpostun -P 1000100 -- /usr/lib/systemd/system /etc/systemd/system
/usr/lib/systemd/systemd-update-helper system-reload
%transfiletriggerpostun -P 10000 -- /usr/lib/systemd/system /etc/systemd/system
/usr/lib/systemd/systemd-update-helper system-restart
"""

POLICY = """
Name: selinux-policy-targeted
Version: 38
Release: 1
Summary: A policy, which is put in place by the tests
License: BSD-3-Clause
BuildArch: noarch
%description
A policy, which is put in place by the tests.
%files
"""

NGINX_FILESYSTEM = """
Name: nginx-filesystem
Version: 1.22
Release: 1
Summary: The account of nginx, and folders that are there already
License: BSD-3-Clause
BuildArch: noarch
%description
The account of nginx, and folders that are there already.
%pre
getent group nginx >/dev/null || groupadd -r nginx
getent passwd nginx >/dev/null || useradd -r -g nginx -d /var/lib/nginx -s /sbin/nologin nginx
%files
"""

# In the words of EL's own, which the macros of its spec files call.
HELPER = """#!/bin/bash
set -eu
command=$1
shift
[ -d /run/systemd/system ] || [ "$command" = install-system-units ] || exit 0
case $command in
    install-system-units) systemctl --no-reload preset "$@" ;;
    remove-system-units) systemctl --no-reload disable --now "$@" ;;
    mark-restart-system-units) for unit; do systemctl set-property "$unit" Markers=+needs-restart; done ;;
    system-reload) systemctl daemon-reload ;;
    system-restart) systemctl reload-or-restart --marked ;;
    system-reload-restart) systemctl daemon-reload; systemctl reload-or-restart --marked ;;
    *) exit 3 ;;
esac
"""

LIBRARIES = ["ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0"]
LIBRARIES += ["librt.so.1", "libstdc++.so.6"]
VERSIONED = re.compile(
    r"(ld-linux-x86-64|libc|libdl|libm|libpthread|librt|libgcc_s)\.so\.\d\((GLIBC|GCC)_([\d.]+)\)\(64bit\)"
)
DISTS = {"el9": (9, 252), "el10": (10, 257)}
"""The releases of EL, and of systemd in them."""
GLIBC = (2, 34)
"""The version that EL 9 has."""


def in_el(requirement):
    """Return whether EL 9 fulfils what a package asks of glibc and the compiler's library."""
    found = VERSIONED.fullmatch(requirement)
    if found is None:
        return requirement.removesuffix("()(64bit)") in LIBRARIES or requirement == "rtld(GNU_HASH)"
    return found[2] == "GCC" or tuple(int(part) for part in found[3].split(".")) <= GLIBC


def load_builder():
    """Return packaging/rpm.py as a module."""
    specification = importlib.util.spec_from_file_location("jlabd_rpm_builder", TOP / "packaging/rpm.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def query(package, *words):
    """Return what rpm says about a package file, line by line."""
    command = ["rpm", "--query", "--package", "--nosignature", *words, package]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def checkout(builder, place):
    """Copy what belongs into packages into a folder; return it."""
    for path in builder.files_of(TOP):
        target = place / path.relative_to(TOP)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return place


class Packages:
    """jlabd for both versions of EL, from one look at the checkout: it may be worked on meanwhile."""

    def __init__(self, builder, place):
        self.builder = builder
        self.source = checkout(builder, place / "checkout")
        self.epoch = builder.source_date(TOP)
        self.files = builder.build(self.source, place / "built", ["el9", "el10"], epoch=self.epoch, quick=True)

    def of(self, dist, name="jlabd"):
        """Return a package for a dist tag, "src" the source package."""
        return next(path for path in self.files if f".{dist}." in path.name and re.match(rf"{name}-\d", path.name))

    def build_next(self, place):
        """Build a version that is a little newer, programs and configuration; return its packages."""
        newer = shutil.copytree(self.source, place / "newer")
        file = newer / "jlabd/__init__.py"
        file.write_text(re.sub(r'(__version__ = ".*)"', rf'\1{NEXT}"', file.read_text()))
        with (newer / "etc/jlabd.toml").open("a") as file:
            file.write("\n# A setting that is new in this version.\n")
        return self.builder.build(newer, place / "built", ["el9", "el10"], epoch=self.epoch, quick=True)


class Repository:
    """Folders DIST/old and DIST/new with the same packages, all signed; only in `new` there is the next jlabd, too."""

    def __init__(self, packages, place):
        self.builder = packages.builder
        self.place = place
        # Short: the agent has a socket in it.
        self._keys = tempfile.mkdtemp(prefix="jl", dir="/tmp")
        self._gpg("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "jlabd-tests", "rsa3072", "sign", "1y")
        self._gpg("gpg", "--batch", "--armor", "--export", "--output", place / "key.asc", "jlabd-tests")
        newer = packages.build_next(place)
        for dist, (release, systemd) in DISTS.items():
            libraries = sorted(filter(in_el, set(query(packages.of(dist), "--requires"))))
            provides = "\n".join(f"Provides: {library}" for library in libraries)
            base = BASE.format(release=release, systemd=systemd, libraries=provides, helper=place / "helper")
            shims = {f"el-base-{dist}": base, "nginx-filesystem": NGINX_FILESYSTEM, "selinux-policy-targeted": POLICY}
            needed = [self._build_shim(name, text) for name, text in shims.items()]
            old = [packages.of(dist), packages.of(dist, "jlabd-selinux"), *needed]
            self._publish(place / dist / "old", old)
            self._publish(place / dist / "new", old + [path for path in newer if f".{dist}." in path.name])

    def close(self):
        """End what runs for the key, and forget it."""
        self._gpg("gpgconf", "--kill", "all")
        shutil.rmtree(self._keys, ignore_errors=True)  # the agent takes its sockets away at the same time

    def _gpg(self, *command):
        environment = {**os.environ, "GNUPGHOME": self._keys, "LC_ALL": "C.UTF-8"}
        subprocess.run(command, check=True, capture_output=True, env=environment)

    def _build_shim(self, name, text):
        (self.place / "helper").write_text(HELPER)
        spec, output = self.place / f"{name}.spec", self.place / "shims" / name
        if output.exists():
            return next(output.glob("RPMS/noarch/*.rpm"))
        spec.write_text(text)
        options = ["--load", TOP / "packaging/rpm/el.macros", "--define", f"_topdir {output}"]
        command = ["rpmbuild", "-bb", "--quiet", *options, "--define", "_binary_payload w1.zstdio", spec]
        subprocess.run(command, check=True, capture_output=True)
        return next(output.glob("RPMS/noarch/*.rpm"))

    def _publish(self, folder, packages):
        folder.mkdir(parents=True)
        copies = [shutil.copy(path, folder) for path in packages]
        macros = {"__gpg": shutil.which("gpg"), "_gpg_name": "jlabd-tests", "_gpg_path": self._keys}
        defines = [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]
        self._gpg("rpmsign", *defines, "--addsign", *copies)
        subprocess.run(["createrepo_c", "--quiet", folder], check=True, capture_output=True)
        self._gpg("gpg", "--batch", "--armor", "--detach-sign", folder / "repodata/repomd.xml")
