"""A real nginx, labs in small behind it, and a configuration that speaks of them."""

import asyncio
import os
import pwd
import signal
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web
from rig.nginx import free_port
from rig.waiting import until

from jlabd.nginx.publish import Publisher
from jlabd.processes.command import CommandResult, run
from jlabd.spec import Configuration, InstanceSpec, NginxSpec, RouteSpec, TcpListen, UnixListen

NOBODY = pwd.getpwnam("nobody")

NAME = web.AppKey("name", str)
GO_ON = web.AppKey("go_on", asyncio.Event)

MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
worker_processes 1;
{user}
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    {before}
    include {config_dir}/jlabd.conf;
    {after}
}}
"""


@dataclass
class Runner:
    """Runs commands as the daemon does, and remembers them: by their last word, and * for one with its own view."""

    views: bool = True
    """False: as on a machine where nobody may have a view of her own."""
    calls: list = field(default_factory=list)

    async def __call__(self, argv, timeout_s, *, view=None, **more):
        """Run `argv`."""
        if view is not None and not self.views:
            return CommandResult(127, "Operation not permitted", without_view=True)
        self.calls.append(argv[-1] + "*" * (view is not None))
        return await run(argv, timeout_s, view=view, **more)

    @property
    def reloads(self):
        """Return how often nginx was told to load something."""
        return self.calls.count("reload")


class Server:
    """One nginx in `folder`, as `user` (None: whoever runs the tests)."""

    def __init__(self, binary, folder, user):
        self.binary = str(binary)
        self.folder = folder
        self.config_dir = folder / "jlabd.d"
        self.own = folder / "nginx"
        self.own.mkdir()
        self.port = free_port()
        self.user = user
        self.run = Runner()
        self.process = None
        if user is not None:
            os.chown(self.own, user, user)
        self.write_main()

    def write_main(self, before="", after=""):
        """Write nginx.conf, with the administrator's own servers before and after the include."""
        user = f"user {NOBODY.pw_name} nogroup;" if os.geteuid() == 0 and self.user is None else ""
        text = MAIN.format(folder=self.own, config_dir=self.config_dir, user=user, before=before, after=after)
        (self.folder / "nginx.conf").write_text(text)

    @property
    def command(self):
        """Return how this nginx is called; root steps down for the one that is an ordinary user's."""
        step_down = ("setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups")
        return (
            *(step_down if self.user is not None else ()),
            self.binary,
            "-p",
            str(self.own),
            "-c",
            str(self.folder / "nginx.conf"),
        )

    def spec(self, **more):
        """Return [nginx] for this nginx."""
        usual = {
            "config_dir": str(self.config_dir),
            "test_command": (*self.command, "-t"),
            "reload_command": (*self.command, "-s", "reload"),
            "listen": (f"127.0.0.1:{self.port}",),
            "server_names": ("lab.example.com",),
        }
        return NginxSpec(**(usual | more))

    async def start(self):
        """Start it and wait until it is there."""
        await asyncio.to_thread(self._start)

    def _start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._is_up, 20, "nginx to be up")

    def _is_up(self):
        assert self.process.poll() is None, (self.own / "error.log").read_text()
        pid = self.own / "nginx.pid"
        return pid.exists() and pid.read_text().strip()

    def workers(self):
        """Return the pids of the workers: a reload brings new ones."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return set(path.read_text().split())

    def logs(self):
        """Return everything in all logs of this nginx."""
        return "".join(path.read_text(errors="replace") for path in self.own.glob("*.log"))

    def stop(self):
        """End it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)


async def _echo(request):
    """Tell what arrived."""
    body = await request.read()
    return web.json_response(
        {"name": request.app[NAME], "target": request.raw_path, "length": len(body), "headers": dict(request.headers)}
    )


async def _websocket(request):
    """Say back what is said."""
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(f"{request.app[NAME]} {request.headers['Host']} {message.data}")
    return answer


async def _stream(request):
    """Send one line, and the second only when told that the first one has arrived."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"first\n")
    await request.app[GO_ON].wait()
    await answer.write(b"second\n")
    return answer


class Labs:
    """Labs in small, each on its own unix socket or on a port."""

    def __init__(self, folder):
        self._folder = folder
        self._runners = []
        self.go_on = asyncio.Event()

    async def start(self, name, *, port=None, **more):
        """Start a lab and return the spec of its instance."""
        app = web.Application(client_max_size=64 * 2**20)
        app[NAME], app[GO_ON] = name, self.go_on
        app.router.add_get("/{path:.*}ws", _websocket)
        app.router.add_get("/{path:.*}stream", _stream)
        app.router.add_route("*", "/{path:.*}", _echo)
        runner = web.AppRunner(app)
        await runner.setup()
        self._runners.append(runner)
        listen = TcpListen("127.0.0.1", port) if port else UnixListen(str(self._folder / f"{name}.sock"))
        if port:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        else:
            await web.UnixSite(runner, listen.path).start()
            Path(listen.path).chmod(0o666)
        return instance(name, listen, **more)

    async def stop(self):
        """End all."""
        for runner in self._runners:
            await runner.cleanup()


def quick(run):
    """Return a publisher that makes no pause between reloads."""
    return Publisher(run, floor_s=0)


def instance(name, listen=None, **more):
    """Return the spec of an instance."""
    listen = listen or UnixListen(f"/run/jlabd/sockets/{name}.sock")
    base_url = "/" if more.get("server_name") else f"/{name}/"
    return InstanceSpec(name, listen, **{"base_url": base_url, "route": RouteSpec(), **more})


def configured(nginx, *instances, **changes):
    """Return a configuration."""
    return Configuration("/etc/jlabd.toml", nginx=replace(nginx, **changes), instances={i.name: i for i in instances})


async def running(server, publisher, *instances):
    """Publish, start nginx, publish again, and forget the calls."""
    await publisher.publish(configured(server.spec(), *instances))
    await server.start()
    outcome = await publisher.publish(configured(server.spec(), *instances))
    assert outcome.ok, outcome.error
    assert not publisher.needs_retry
    server.run.calls.clear()
    return outcome.generation


def tree(folder):
    """Return every path below a folder with its content, and where links lead."""
    paths = sorted(Path(folder).rglob("*"))
    return {str(p): os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else None for p in paths}
