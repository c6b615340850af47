"""How long `jlabctl status` takes, beside `supervisorctl status`, for the same number of the same programs, in one run.

    python benchmarks/status.py [NUMBER...]        (run by the Python of the project's .venv; default: 10 100)

supervisor is installed from PyPI into a folder of its own. Both daemons run a small program that only sleeps; jlabd's
answers HTTP because jlabd asks. Printed are wall-clock milliseconds of the whole command, the median and the smallest
of ROUNDS interleaved runs, and their ratio.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15
PROGRAMS = Path(sys.executable).parent
CACHE = Path(__file__).resolve().parent.parent / ".cache/bench"
SERVER = """
import socket
listener = socket.socket(fileno=3)
listener.setblocking(True)
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    connection.close()
"""


def supervisor_programs() -> Path:
    """Install supervisor once; return the folder of its programs."""
    if not (CACHE / "bin/supervisorctl").exists():
        subprocess.run([sys.executable, "-m", "venv", CACHE], check=True)
        pip = [CACHE / "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "supervisor==4.3.0", "setuptools<81"], check=True)
    return CACHE / "bin"


def start_supervisor(folder: Path, number: int, programs: Path) -> tuple[subprocess.Popen[bytes], list[str]]:
    """Start supervisord with `number` programs; return it and the status command."""
    config = folder / "supervisord.conf"
    config.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/s.log\npidfile={folder}/s.pid\nminfds=2048\n"
        f"[unix_http_server]\nfile={folder}/s.sock\n[supervisorctl]\nserverurl=unix://{folder}/s.sock\n"
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[program:p]\ncommand=/bin/sleep 100000\nnumprocs={number}\nprocess_name=p%(process_num)s\n"
    )
    daemon = subprocess.Popen([programs / "supervisord", "-c", config], stdout=subprocess.DEVNULL)
    return daemon, [str(programs / "supervisorctl"), "-c", str(config), "status"]


def start_jlabd(folder: Path, number: int) -> tuple[subprocess.Popen[bytes], list[str]]:
    """Start jlabd with `number` programs; return it and the status command."""
    config = folder / "jlabd.toml"
    root = 'user = "root"\nallow_root = true\n' if Path("/proc/self").stat().st_uid == 0 else ""
    command = json.dumps(["/usr/bin/python3", "-I", "-S", "-c", SERVER])
    config.write_text(
        f'[daemon]\nruntime_dir="{folder}/run"\nstate_dir="{folder}/state"\nlog_dir="{folder}/log"\ninclude=""\n'
        f'status_listen=""\n[nginx]\nenabled=false\n[defaults]\n{root}root_dir="/"\n'
        + "".join(f"[instance.p{i}]\ncommand = {command}\n" for i in range(number))
    )
    log = (folder / "jlabd.log").open("wb")
    daemon = subprocess.Popen([PROGRAMS / "jlabd", "--config", config], stdout=log, stderr=log)
    return daemon, [str(PROGRAMS / "jlabctl"), "--socket", f"{folder}/run/control.sock", "status"]


def wait_until(ready: str, number: int, command: list[str]) -> None:
    """Wait until `command` shows `number` lines with the word `ready`."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if shown.count(ready) >= number:
            return
        time.sleep(0.5)
    raise TimeoutError(f"{command} never showed {number} times {ready}")


def milliseconds(command: list[str]) -> float:
    """Run `command` once; return how long it took."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - began) * 1000


def compare(number: int) -> str:
    """Measure both with `number` programs; return a row of the table."""
    folder = Path(tempfile.mkdtemp(prefix="jlbench", dir="/tmp"))
    daemons = []
    try:
        theirs = start_supervisor(folder, number, supervisor_programs())
        daemons.append(theirs[0])
        ours = start_jlabd(folder, number)
        daemons.append(ours[0])
        wait_until("RUNNING", number, theirs[1])
        wait_until("ready", number, ours[1])
        rounds = [(milliseconds(ours[1]), milliseconds(theirs[1])) for _ in range(ROUNDS)]
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()
        shutil.rmtree(folder)
    our, their = zip(*rounds, strict=True)
    medians = statistics.median(our), statistics.median(their)
    return (
        f"{number:>9} | {medians[0]:7.0f} ({min(our):4.0f}) | {medians[1]:9.0f} ({min(their):4.0f}) | "
        f"{medians[0] / medians[1]:5.2f}"
    )


def main() -> None:
    """Print the table."""
    print(" programs | jlabctl (min) ms | supervisorctl (min) ms | ratio")
    for number in [int(word) for word in sys.argv[1:]] or [10, 100]:
        print(compare(number), flush=True)


if __name__ == "__main__":
    main()
