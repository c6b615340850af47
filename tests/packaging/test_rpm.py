"""The packages themselves: what is in them, and that they come out the same each time."""

import filecmp
import os
import re
import shutil
import subprocess

import pytest

from tests.packaging.booted import TOP
from tests.packaging.repository import checkout, in_el, query


@pytest.fixture(scope="session")
def package(packages):
    """The package for EL 9."""
    return packages.of("el9")


def test_same_bytes(builder, packages, tmp_path, monkeypatch):
    """The same sources, elsewhere, with another umask, locale and time zone, give the same packages, byte for byte."""
    place = tmp_path / "a checkout with spaces"
    shutil.copytree(packages.source, place)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(packages.epoch))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    umask = os.umask(0o077)
    try:
        again = builder.build(place, tmp_path / "again", ["el9"], quick=True)
    finally:
        os.umask(umask)
    expected = [packages.of("el9"), packages.of("el9", "jlabd-selinux"), packages.of("src")]
    assert {path.name for path in again} == {path.name for path in expected}
    for path in again:
        assert filecmp.cmp(path, next(made for made in packages.files if made.name == path.name), shallow=False), path


def test_rpmlint(packages):
    """Distributors' own checker finds nothing but what we mean so, and say why."""
    if shutil.which("rpmlint") is None:
        pytest.skip("NO rpmlint: apt install rpmlint")
    command = ["rpmlint", "--config", TOP / "packaging/rpm/rpmlint.toml", *packages.files]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "0 errors, 0 warnings" in said.stdout, said.stdout


@pytest.mark.parametrize("dist", ["el9", "el10"])
def test_asks_for_what_el_has(packages, dist):
    """The package asks for Python 3.12, systemd, nginx's folders and libraries that EL 9 has, and for nothing else."""
    asked = {line for line in query(packages.of(dist), "--requires") if not line.startswith(("rpmlib(", "config("))}
    (version,) = query(packages.of(dist), "--queryformat", "%{VERSION}\n")
    ours = {"/bin/sh", "/usr/bin/python3.12", "python3.12", "systemd", "nginx-filesystem"}
    ours.add(f"(jlabd-selinux = {version}-1.{dist} if selinux-policy-targeted)")
    assert {line for line in asked if not in_el(line)} == ours
    assert query(packages.of(dist), "--recommends") == ["nginx"]
    assert query(packages.of(dist), "--queryformat", "%{RELEASE} %{ARCH}\n") == [f"1.{dist} x86_64"]


def test_says_what_is_bundled(package):
    """Each requirement of the lock file is declared with its version, and its licence comes with it; and only those."""
    lock = (TOP / "packaging/lock/runtime.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock, re.MULTILINE))
    provided = query(package, "--provides")
    bundled = dict(
        found.groups() for line in provided if (found := re.fullmatch(r"bundled\(python3dist\((.+)\)\) = (.+)", line))
    )
    assert bundled == pinned
    rest = {line.split(" ")[0] for line in provided if not line.startswith("bundled(")}
    assert rest == {"jlabd", "jlabd(x86-64)", "config(jlabd)"}, "nothing that others could use by mistake"
    licences = {path.split("/")[6] for path in query(package, "--licensefiles") if "/bundled/" in path}
    assert {name.lower().replace("_", "-") for name in licences} == set(pinned)


def test_content(package):
    """Configuration is the administrator's, and secret; programs, units and what systemd makes of them are there."""
    assert query(package, "--configfiles") == ["/etc/jlabd.toml", "/etc/nginx/conf.d/jlabd.conf"]
    lines = query(package, "--list", "--verbose")
    modes = {words[8]: " ".join([words[0], words[2], words[3]]) for words in map(str.split, lines)}
    assert modes["/etc/jlabd.toml"] == "-rw------- root root"
    assert modes["/etc/jlabd.d"] == "drwx------ root root"
    assert modes["/var/lib/jlabd"] == "drwx------ root root"
    assert modes["/var/log/jlabd"] == "drwxr-x--- root root"
    system = [
        "systemd/system/jlabd.service",
        "systemd/system/jlabd-labs.service",
        "systemd/system-preset/50-jlabd.preset",
    ]
    system += ["sysusers.d/jlabd.conf", "tmpfiles.d/jlabd.conf"]
    ours = ["/usr/bin/jlabd", "/usr/bin/jlabctl", "/etc/nginx/jlabd.d", "/usr/share/licenses/jlabd/LICENSE"]
    pages = ["man1/jlabctl.1.gz", "man5/jlabd.toml.5.gz", "man8/jlabd.8.gz"]
    shells = ["bash-completion/completions/jlabctl", "zsh/site-functions/_jlabctl"]
    shells.append("fish/vendor_completions.d/jlabctl.fish")
    shared = [*(f"man/{page}" for page in pages), *shells, "jlabd/jlabd.schema.json"]
    ours += [f"/usr/share/{path}" for path in shared]
    ours += [f"/usr/share/doc/jlabd/{page}" for page in ("README.md", "docs/troubleshooting.md", "docs/install.md")]
    assert {*ours, *(f"/usr/lib/{path}" for path in system)} <= set(modes)
    strangers = [path for path, mode in modes.items() if not mode.endswith("root root") or mode[8] == "w"]
    assert strangers == []
    sources = [path for path in modes if path.endswith(".py") and path.startswith("/usr/lib64/jlabd/")]
    compiled = [re.sub(r"(.*)/(.+)\.py", r"\1/__pycache__/\2.cpython-312.pyc", path) for path in sources]
    assert len(sources) > 100
    assert [path for path in compiled if path not in modes] == [], "or Python would compile at each start"
    assert not any("/demo/" in path or "/tests/" in path for path in modes)


def test_no_place_of_the_build(packages, package, tmp_path):
    """No file says where the package was built."""
    command = f"rpm2cpio '{package}' | cpio --extract --make-directories --quiet"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    places = [str(packages.source), "/jlabd-rpm-", str(TOP)]
    found = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file()
        for place in places
        if place.encode() in path.read_bytes()
    ]
    assert found == []


def test_source_package(packages):
    """The source package is complete: what it holds is a spec without gaps, the sources, and every wheel."""
    names = [re.sub(r"\d[\d.]+\d", "V", name) for name in query(packages.of("src"), "--list")]
    assert names == ["jlabd-V.tar.gz", "jlabd-wheels-V.tar", "jlabd.spec"]
    assert {"python3.12", "python3.12-pip", "systemd-rpm-macros"} <= set(query(packages.of("src"), "--requires"))


def test_checkout_is_complete(builder, tmp_path):
    """What is packed is what a checkout has: nothing that only lies about, like compiled files."""
    names = {str(path.relative_to(tmp_path)) for path in checkout(builder, tmp_path).rglob("*") if path.is_file()}
    assert {"jlabd/main.py", "packaging/jlabd.service", "etc/jlabd.toml", "LICENSE"} <= names
    assert not any("__pycache__" in name or name.startswith(("tests/", ".")) for name in names)
