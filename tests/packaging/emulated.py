"""A whole emulated machine with a Linux of its own, in which cgroups have all their controllers, as on a real one.

Everything is computed in software: some ten times as slow as usual, so one boot serves many tests. They talk to it over
a serial line (`agent.py`).
"""

import json
import shutil
import socket
import subprocess

from tests.packaging.booted import INSIDE, Machine

IMAGE_SIZE = "2G"
MEMORY = "1500M"

MAKE_IMAGE = """
set -e
folder=$1 root=$2 image=$3 size=$4
shift 4
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=$root,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"
cp -a "$folder/files/." "$folder/root/"
while [ $# -gt 0 ]; do
    mkdir -p "$folder/root/$2"
    mount --bind "$1" "$folder/root/$2"
    shift 2
done
truncate --size "$size" "$image"
mkfs.ext4 -q -O ^has_journal -d "$folder/root" "$image"
"""

AGENT = f"""
[Unit]
After=multi-user.target
[Service]
ExecStart=/usr/bin/python3 {INSIDE}/tests/packaging/agent.py /dev/ttyS1
[Install]
WantedBy=multi-user.target
"""


class EmulatedMachine(Machine):
    """`kernel` is the Linux to boot (tests/setup/kernel.sh), the rest as for a `Machine`."""

    def __init__(self, root, venv, kernel):
        super().__init__(root, venv)
        self.kernel = kernel
        self._serial = None

    def _furnish(self):
        super()._furnish()
        self.put("/etc/systemd/system/agent.service", AGENT)
        wanted = self.folder / "files/etc/systemd/system/multi-user.target.wants"
        wanted.mkdir(parents=True)
        (wanted / "agent.service").symlink_to("../agent.service")
        (wanted.parent / "serial-getty@ttyS0.service").symlink_to("/dev/null")

    def put(self, path, text, mode=0o644):
        """Write a file, before the system is booted or while it runs."""
        if self._process is None:
            super().put(path, text, mode)
        else:
            self._ask("put", path, text, mode)

    def boot(self):
        """Boot, and return when the system is up."""
        image = self.folder / "image"
        binds = [word for pair in self.binds.items() for word in pair]
        make = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MAKE_IMAGE, "sh"]
        subprocess.run([*make, self.folder, self.root, image, IMAGE_SIZE, *binds], check=True)
        ours, theirs = socket.socketpair()
        with theirs, (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._emulator(image, theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._serial = ours.makefile("rwb", buffering=0)
        ours.settimeout(300)
        ours.close()
        while self._line() != b"{}\n":
            pass
        return self

    def _emulator(self, image, serial):
        disk = f"file={image},if=none,id=disk,format=raw,cache=unsafe,file.locking=off"
        kernel = "root=/dev/nvme0n1 rw console=ttyS0 panic=-1 quiet mitigations=off systemd.unified_cgroup_hierarchy=1"
        words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2"]
        words += ["-m", MEMORY, "-display", "none", "-nodefaults", "-no-reboot", "-nic", "none"]
        words += ["-kernel", str(self.kernel), "-append", kernel]
        words += ["-drive", disk, "-device", "nvme,drive=disk,serial=1"]
        words += ["-serial", "stdio", "-chardev", f"socket,id=agent,fd={serial}", "-serial", "chardev:agent"]
        return words

    def down(self):
        """Switch off at once, and leave nothing behind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._serial.close()
        shutil.rmtree(self.folder)

    # Talking to it

    def _line(self):
        line = self._serial.readline()
        assert line, f"the machine has ended:\n{self.console()[-3000:]}"
        return line

    def _ask(self, *question):
        self._serial.write(json.dumps(question).encode() + b"\n")
        answer = json.loads(self._line())
        if "error" in answer:
            raise OSError(answer["error"])
        return answer["said"]

    def run(self, *words, check=True, timeout=240):
        """Run a command inside to its end; return what it printed."""
        status, said = self._ask("run", words, timeout)
        assert status == 0 or not check, f"{words}: {said}"
        return said

    def read(self, path):
        """Return a file's text. Raises OSError."""
        return self._ask("read", path)

    def get(self, path, target, timeout_s=60):
        """Return (status, body) of a request to a unix socket. Raises OSError."""
        return tuple(self._ask("get", path, target, timeout_s))

    def fetch(self, target):
        """Return (status, body) of what the daemon's HTTP endpoint says."""
        return tuple(self._ask("get", "127.0.0.1", target, 60))

    def document(self):
        """Return jlabd's status document, None if it does not answer."""
        try:
            return json.loads(self.get("/run/jlabd/control.sock", "/status")[1])
        except OSError:
            return None

    def ask(self, name, query="", timeout_s=60):
        """Return (status, body) of a request to an instance."""
        return self.get(f"/run/jlabd/sockets/{name}.sock", f"/{name}/{query}", timeout_s)
