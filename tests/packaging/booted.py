"""A system that is booted for one test, with this checkout as its service, and taken down without a trace.

systemd-nspawn boots it on a throw-away overlay, in namespaces that end with the test's process, however that ends. Only
empty cgroups and a folder need somebody who removes them (`sweep`).
"""

import contextlib
import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from rig.unix_http import get
from rig.waiting import until

TOP = Path(__file__).resolve().parent.parent.parent
PLACE = Path("/var/tmp")
PREFIX = "jlboot-"
INSIDE = "/opt/jlabd"
"""Where the checkout is inside."""

PROGRAM = """#!{python}
import sys
sys.path.insert(0, "{inside}")
from {module} import main
sys.exit(main())
"""

PRIVATELY = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
PRIVATELY += ["--pid", "--mount-proc", "--fork", "--kill-child=KILL"]

START = """
set -e
folder=$1 root=$2
shift 2
while [ "$1" != -- ]; do
    echo 0 >"$1/cgroup.procs"
    shift
done
shift
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn  # where it lies on a disk, nspawn does not dare to reboot
mount -t tmpfs -o size=2G,mode=0755 tmpfs "$folder/disk"
cd "$folder/disk"
mkdir upper work root
mount -t overlay -o "lowerdir=$root,upperdir=upper,workdir=work" overlay root
cp -a "$folder/files/." root/
set +e
while
    "$@"
    [ $? = 133 ] # the system inside wants to reboot
do :; done
"""

ENTER = """
echo $$ >"$1/cgroup.procs"
pid=$2
shift 2
exec nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup --root --wd \
    env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root "$@"
"""

CONFIG = """
[daemon]
include = ""
[nginx]
enabled = false
[defaults]
user = "ann"
venv = "{venv}"
"""


class Machine:
    """One booted system. `root` is the folder made by tests/setup/bootroot.sh, `venv` has JupyterLab and our needs."""

    def __init__(self, root, venv):
        self.root = root
        self.venv = venv
        self.binds = {str(venv): str(venv), f"{TOP}/tests": f"{INSIDE}/tests"}
        self.name = f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.folder = PLACE / self.name
        (self.folder / "disk").mkdir(parents=True, mode=0o700)
        self.cgroups = [Path(top, self.name) for top in hierarchies()]
        self._process = None
        self._leader = 0
        self._furnish()

    # What is inside

    def _furnish(self):
        self.binds[f"{TOP}/jlabd"] = f"{INSIDE}/jlabd"
        for program, module in {"jlabd": "jlabd.main", "jlabctl": "jlabd.ctl.main"}.items():
            text = PROGRAM.format(python=f"{self.venv}/bin/python", inside=INSIDE, module=module)
            self.put(f"/usr/bin/{program}", text, 0o755)
        for unit in (TOP / "packaging").glob("*.service"):
            self.put(f"/usr/lib/systemd/system/{unit.name}", unit.read_text())
        self.configure("")

    def put(self, path, text, mode=0o644):
        """Write a file, before the system is booted or while it runs."""
        place = self.inside(path) if self._leader else self.folder / "files" / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def configure(self, instances):
        """Write /etc/jlabd.toml with these instances."""
        self.put("/etc/jlabd.toml", CONFIG.format(venv=self.venv) + instances)

    def drop_in(self, text):
        """Change the unit before the system is booted, as `systemctl edit` would."""
        self.put("/etc/systemd/system/jlabd.service.d/test.conf", text)

    def inside(self, path):
        """Return the path, outside, of a file of the running system."""
        return Path(f"/proc/{self._leader}/root{path}")

    # Up and down

    def boot(self):
        """Boot, and return when the system is up."""
        for cgroup in self.cgroups:
            cgroup.mkdir()
        binds = [f"--bind-ro={outside}:{inside}" for outside, inside in self.binds.items()]
        nspawn = ["systemd-nspawn", "--quiet", f"--directory={self.folder}/disk/root", "--boot", "--register=no"]
        nspawn += ["--keep-unit", "--console=pipe", "--private-network", "--link-journal=no", f"--machine={self.name}"]
        start = [*PRIVATELY, "sh", "-c", START, "sh", self.folder, self.root, *self.cgroups, "--"]
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [*start, *nspawn, *binds],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                start_new_session=True,
            )
        self._wait_until_up()
        return self

    def _wait_until_up(self):
        self._leader = until(self._find_leader, 30, "the system to begin", every_s=0.05)
        until(self._is_up, 60, "the system to be up", every_s=0.1)

    def _find_leader(self):
        """Return the pid of the system's first process, None if there is none that was not there before."""
        assert self._process.poll() is None, self.console()
        with contextlib.suppress(OSError, ValueError):
            (shell,) = children(self._process.pid)
            for first in [first for nspawn in children(shell) for first in children(nspawn)]:
                if first != self._leader and Path(f"/proc/{first}/comm").read_text() == "systemd\n":
                    return first
        return None

    def _is_up(self):
        assert self._process.poll() is None, self.console()
        with contextlib.suppress(OSError, StopIteration):
            return self.run("systemctl", "is-system-running", check=False).strip() in {"running", "degraded"}

    def reboot(self):
        """Reboot in order, and return when the system is up again."""
        self.run("systemctl", "reboot", "--no-block")
        self._wait_until_up()

    def console(self):
        """Return what the system wrote on its console."""
        return (self.folder / "console").read_text(errors="replace")

    def down(self):
        """Switch off at once, and leave nothing behind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        remove(self.name)

    # Talking to it

    def run(self, *words, check=True, timeout=120):
        """Run a command inside to its end; return what it printed."""
        scope = next(scope for cgroup in self.cgroups if (scope := cgroup / "payload/init.scope").exists())
        done = subprocess.run(
            ["sh", "-c", ENTER, "sh", scope, str(self._leader), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}\n{self.journal()[-5000:]}"
        return done.stdout

    def systemctl(self, *words, **options):
        """Run systemctl inside."""
        return self.run("systemctl", *words, **options)

    def show(self, name):
        """Return one property of jlabd.service."""
        return self.systemctl("show", "--value", "--property", name, "jlabd").strip()

    def journal(self, *words):
        """Return the journal of jlabd.service."""
        return self.run("journalctl", "--no-pager", "--unit", "jlabd", *words, check=False)

    # jlabd inside

    def document(self):
        """Return jlabd's status document, None if it does not answer."""
        try:
            return json.loads(self.run("jlabctl", "status", "--json", check=False))
        except ValueError:
            return None

    def instance(self, name):
        """Return an instance's part of the status document, None if there is none."""
        document = self.document() or {"instances": []}
        return next((entry for entry in document["instances"] if entry["name"] == name), None)

    def wait_for(self, name, state="ready", timeout_s=60):
        """Return the instance's entry once it is in `state`."""

        def reached():
            entry = self.instance(name)
            return entry if entry is not None and entry["state"] == state else None

        try:
            return until(reached, timeout_s, f"{name} to be {state}", every_s=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.instance(name)}\n{self.journal()[-5000:]}") from None

    def ask(self, name, timeout_s=30):
        """Return (status, body) of a request to an instance."""
        return get(self.inside(f"/run/jlabd/sockets/{name}.sock"), f"/{name}/", timeout_s)

    def processes(self):
        """Return the pids, as seen from outside, of what is in the cgroups of jlabd, but for jlabd itself."""
        found = []
        for cgroup in self.cgroups:
            for folder, _, _ in os.walk(cgroup / "payload"):
                if "/jlabd" in folder:
                    with contextlib.suppress(OSError):  # gone meanwhile
                        found += Path(folder, "cgroup.procs").read_text().split()
        return found


def sweep():
    """Remove what is left of machines whose test was killed."""
    for folder in PLACE.glob(f"{PREFIX}*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            remove(folder.name)


def remove(name):
    """Remove cgroups and folder of a machine that is switched off; wait until its last processes are gone."""
    cgroups = [Path(top, name) for top in hierarchies()]
    until(lambda: not any(left_of(cgroup) for cgroup in cgroups), 20, "the processes to be gone")
    shutil.rmtree(PLACE / name)


def left_of(cgroup):
    """Remove a cgroup as far as it is empty; return whether something is left."""
    for folder, _, _ in os.walk(cgroup, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return cgroup.exists()


def children(pid):
    """Return the pids of a process's children. Raises OSError."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def hierarchies():
    """Yield where cgroup v2 is mounted and, beside it, systemd's own v1 hierarchy, which nspawn wants to know."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") or (kind.startswith("cgroup ") and "name=systemd" in kind):
            yield fields.split()[4]


def web(name, *words, **keys):
    """Return the TOML of a small web server (see tests/children/web.py)."""
    command = ["/usr/bin/python3", f"{INSIDE}/tests/children/web.py", *words]
    keys.setdefault("restart", '{ initial = "200ms" }')
    lines = [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join([f"[instance.{name}]", f"command = {command!r}", *lines, ""])
