"""A booted system as EL has it, on which jlabd is installed from packages."""

import subprocess

from tests.packaging.booted import Machine

PYTHON = "/opt/python3.12"
REPOSITORY = "/opt/repository"

REPO_FILE = """
[jlabd]
name=jlabd
baseurl=file://{folder}
gpgcheck=1
repo_gpgcheck=1
gpgkey=file://{place}/key.asc
metadata_expire=0
"""


class PlainMachine(Machine):
    """A system with a Python 3.12 and without jlabd; the folder `lent` is at /opt/repository."""

    def __init__(self, root, venv, builder, lent):
        self.builder = builder
        self.lent = lent
        super().__init__(root, venv)

    def _furnish(self):
        prefix = prefix_of(self.builder.find_python())
        self.binds |= {prefix: PYTHON, str(self.lent): REPOSITORY}
        links = self.folder / "files/usr/bin", self.folder / "files/usr/lib/x86_64-linux-gnu"
        for folder in links:
            folder.mkdir(parents=True)
        (links[0] / "python3.12").symlink_to(f"{PYTHON}/bin/python3.12")
        (links[1] / "libpython3.12.so.1.0").symlink_to(f"{PYTHON}/lib/libpython3.12.so.1.0")

    def fetch(self, path, host="localhost"):
        """Return (status, body) of what the system's own nginx answers on port 80."""
        program = (
            "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 80, timeout=30);"
            f"c.request('GET', {path!r}, headers={{'Host': {host!r}}}); r = c.getresponse(); print(r.status);"
            "sys.stdout.write(r.read().decode())"
        )
        status, _, body = self.run("/usr/bin/python3", "-c", program).partition("\n")
        return int(status), body


class PackagedMachine(PlainMachine):
    """`install`, `upgrade` and the like are what an administrator types."""

    def __init__(self, root, venv, repository, dist):
        self.dist = dist
        super().__init__(root, venv, repository.builder, repository.place)

    def _furnish(self):
        super()._furnish()
        self.offer("old")

    def offer(self, name):
        """Let the repository be the `old` or the `new` one."""
        text = REPO_FILE.format(folder=f"{REPOSITORY}/{self.dist}/{name}", place=REPOSITORY)
        self.put("/etc/yum.repos.d/jlabd.repo", text)

    def dnf(self, *words, **options):
        """Run dnf."""
        return self.run("dnf", "--assumeyes", "--releasever=9", *words, **options)

    def rpm(self, *words, **options):
        """Run rpm."""
        return self.run("rpm", *words, **options)


def prefix_of(python):
    """Return the folder that a Python and its library live in."""
    said = subprocess.run(
        [python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True
    )
    prefix = said.stdout.strip()
    assert prefix != "/usr", "a Python with a folder of its own is needed, which can be lent to the booted system"
    return prefix
