"""A real nginx of one's own, unprivileged, with the one line that an administrator adds."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from rig.waiting import until

MAIN = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    include {folder}/jlabd.d/jlabd.conf;
}}
"""


def free_port():
    """Return a loopback port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nginx:
    """nginx in a folder of its own; started once jlabd has written its files."""

    def __init__(self, binary):
        self.binary = Path(binary)
        self.folder = Path(tempfile.mkdtemp(prefix="jlngx", dir="/tmp"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.process = None

    def settings(self, *names, listen=None, more=""):
        """Return the lines for jlabd's [nginx]; `listen` is a list of addresses, else one without TLS."""
        command = f'"{self.binary}", "-p", "{self.folder}", "-c", "{self.folder}/nginx.conf"'
        shown = ", ".join(f'"{name}"' for name in names or ("127.0.0.1",))
        return f"""
enabled = true
config_dir = "{self.folder}/jlabd.d"
group = "nogroup"
listen = {json.dumps(listen or [f"127.0.0.1:{self.port}"])}
server_name = [{shown}]
test_command = [{command}, "-t"]
reload_command = [{command}, "-s", "reload"]
{more}
"""

    def prepare(self):
        """Write the main configuration."""
        user = "user nobody nogroup;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(MAIN.format(folder=self.folder, user=user))
        return self

    def start(self):
        """Start it when there is something to include."""
        until((self.folder / "jlabd.d/jlabd.conf").exists, 20, "jlabd to write its nginx files")
        self.process = subprocess.Popen(
            [self.binary, "-p", self.folder, "-c", self.folder / "nginx.conf"], stdin=subprocess.DEVNULL
        )
        until(self._accepts, 20, "nginx to accept")
        return self

    def _accepts(self):
        assert self.process.poll() is None, (self.folder / "error.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        """End it, and remove its folder."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)
