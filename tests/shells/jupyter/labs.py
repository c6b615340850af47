"""Real servers for the tests of this room: planned by it, started by a plain subprocess, spoken to by their socket."""

import contextlib
import http.client
import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import websocket

from jlabd.core.launch import Account
from jlabd.jupyter import folder as folders
from jlabd.jupyter.launchers import install
from jlabd.jupyter.plan import plan
from jlabd.jupyter.secrets import SecretKeeper
from jlabd.jupyter.settings import encode, lab_settings
from jlabd.spec import InstanceSpec, TcpListen, UnixListen

# What the daemon's own spawn does, as a program: descriptors, identity, then exec.
SPAWN = """
import fcntl, json, os, sys
order = json.loads(sys.argv[1])
sources = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in order["fds"]]
for target, source in enumerate(sources, 3):
    os.dup2(source, target)
os.setsid()
if order["ids"]:
    uid, gid, groups = order["ids"]
    os.setgroups(groups); os.setgid(gid); os.setuid(uid)
os.umask(order["umask"])
os.chdir(order["cwd"])
env = {**order["env"], "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "http"}
os.execve(order["argv"][0], order["argv"], env)
"""


def own_account(home):
    """The account that runs the tests, with another home."""
    entry = pwd.getpwuid(os.geteuid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(os.getgroups()), str(home), "/bin/sh")


def wait_for(condition, timeout_s=30, what="it"):
    """Return the condition's first true value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {timeout_s} s")
        time.sleep(0.02)
    return value


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Server:
    """One instance on its own socket, with as many lives as a test wants."""

    def __init__(self, spec, home, place, *, account=None, folder_parent="labs", hostnames=(), backlog=64):
        self.spec, self.place, self.hostnames = spec, Path(place), hostnames
        self.account, self.switch = account or own_account(home), account is not None
        self.labs = folders.make_own_folder(f"{place}/{folder_parent}", 0o711)
        self.launcher = install(str(place))
        self.secrets = SecretKeeper(str(place)).secrets_for(spec)
        self.incarnation, self.process, self.notify = 0, None, None
        self.log = self.place / "log"
        self.listener = self._listen(backlog)

    def _listen(self, backlog):
        if isinstance(self.spec.listen, UnixListen):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.spec.listen.path)
        else:
            listener = socket.socket()
            listener.bind((self.spec.listen.host, self.spec.listen.port))
            self.spec = replace(self.spec, listen=TcpListen(*listener.getsockname()))
        listener.listen(backlog)
        return listener

    def start(self):
        """Start the next incarnation, as the planner says."""
        self.incarnation += 1
        settings = encode(lab_settings(self.spec, self.secrets, self.hostnames))
        account = self.account if self.switch else None
        self.folder = folders.make_folder(self.labs, self.spec.name, self.incarnation, account, settings)
        launch = plan(
            self.spec,
            self.account,
            folder=self.folder,
            launcher_dir=self.launcher,
            relay_python="/usr/bin/python3" if self.switch else sys.executable,
            mark="test",
            switch_user=self.switch,
        )
        return self.exec(launch.argv, dict(launch.env), launch.cwd, launch.umask)

    def exec(self, argv, env, cwd, umask=0o077):
        """Start `argv` with the descriptors that the contract promises."""
        self.notify, write = os.pipe()
        fds = [self.listener.fileno(), write]
        ids = [self.account.uid, self.account.gid, list(self.account.groups)] if self.switch else None
        order = {"fds": fds, "ids": ids, "umask": umask, "cwd": cwd, "env": env, "argv": argv}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", SPAWN, json.dumps(order)],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={},
            )
        os.close(write)
        return self

    def sentence(self, timeout_s=30):
        """What the launcher said on its pipe until it closed it."""
        said = b""
        while select.select([self.notify], [], [], timeout_s)[0]:
            data = os.read(self.notify, 4096)
            if not data:
                return said.decode()
            said += data
        raise AssertionError("the pipe stayed open")

    def connect(self):
        if isinstance(self.spec.listen, UnixListen):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self.spec.listen.path)
            return connection
        return socket.create_connection((self.spec.listen.host, self.spec.listen.port))

    def request(self, method, path, body=None, headers=None, timeout_s=60):
        """One request on a connection of its own; `path` is below the base URL."""
        connection = http.client.HTTPConnection("localhost", timeout=timeout_s)
        connection.sock = self.connect()
        connection.sock.settimeout(timeout_s)
        with contextlib.closing(connection):
            connection.request(method, self.spec.base_url + path, body, {"Host": "localhost", **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    @property
    def by_token(self):
        return {"Authorization": f"token {self.secrets.token}"}

    def log_in(self, password):
        """Post the login form as a browser does; return the answer and the cookies it set."""
        page = self.get("login")
        cookies = _cookies(page)
        form = urllib.parse.urlencode({"password": password, "_xsrf": cookies["_xsrf"]})
        headers = {"Cookie": _cookie_header(cookies), "Content-Type": "application/x-www-form-urlencoded"}
        answer = self.request("POST", "login", form, headers)
        return answer, {**cookies, **_cookies(answer)}

    def start_kernel(self):
        body = json.dumps({"name": "python3"})
        answer = self.request("POST", "api/kernels", body, {**self.by_token, "Content-Type": "application/json"})
        assert answer.status == 201, answer.body
        return answer.json["id"]

    def execute(self, kernel, code, headers=None):
        """Run `code` over the kernel's websocket; return what it gave as result or printed."""
        session = uuid.uuid4().hex
        url = f"ws://localhost{self.spec.base_url}api/kernels/{kernel}/channels?session_id={session}"
        with contextlib.closing(
            websocket.create_connection(url, socket=self.connect(), header=headers or self.by_token, timeout=60)
        ) as channel:
            request = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": session, "username": "",
                       "version": "5.3"}  # fmt: skip
            content = {"code": code, "silent": False, "store_history": False, "user_expressions": {},
                       "allow_stdin": False}  # fmt: skip
            message = {"header": request, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
            channel.send(json.dumps(message))
            return _result(channel, request["msg_id"])

    def stop(self, number=signal.SIGTERM, timeout_s=30):
        """End the server and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def close(self):
        """End every process of the present incarnation."""
        if self.process is not None:
            if self.process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.stop(timeout_s=20)
            self.process.kill()
            self.process.wait()
            os.close(self.notify)
        self.listener.close()


def _result(channel, request):
    result, texts = None, []
    while True:
        message = json.loads(channel.recv())
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        match message["msg_type"]:
            case "execute_result":
                result = content["data"]["text/plain"]
            case "stream":
                texts.append(content["text"])
            case "error":
                raise AssertionError("\n".join(content["traceback"]))
            case "status" if content["execution_state"] == "idle":
                return result if result is not None else "".join(texts)


def _cookies(answer):
    headers = answer.headers.get_all("Set-Cookie") or []
    pairs = (header.split(";", 1)[0].split("=", 1) for header in headers)
    return {name: value for name, value in pairs if value.strip('"')}


def _cookie_header(cookies):
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def cookie_headers(cookies):
    return {"Cookie": _cookie_header(cookies)}


@contextlib.contextmanager
def short_folder():
    """A folder with a name short enough for sockets, which other accounts may enter."""
    place = tempfile.mkdtemp(prefix="jl", dir="/tmp")
    Path(place).chmod(0o755)
    try:
        yield Path(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def descendants(pid):
    """The ids of all processes that descend from `pid`, and its own."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def listening_inodes(*tables):
    """The inodes of all listening sockets in these tables of /proc/net."""
    inodes = set()
    for table in tables:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    inodes.add(int(fields[9]))
    return inodes


def socket_inodes(pid):
    """The inodes of the sockets that `pid` has open."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if match := re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink())):
                    found.add(int(match[1]))
    return found


def unix_spec(place, name="alice", **changes):
    """An instance on a unix socket in `place`."""
    return InstanceSpec(
        name=name,
        listen=UnixListen(f"{place}/{name}.sock"),
        **{"base_url": f"/{name}/", "allow_root": True, **changes},
    )
