"""JupyterLab as jlabd starts it, in the versions it promises: real servers, real kernels."""

import json
import os
import shutil
import socket
import struct
from pathlib import Path

import pytest

from jlabd.jupyter.activity import activity
from jlabd.jupyter.passwords import hash_password
from jlabd.jupyter.probe import ProbeError, Prober
from jlabd.spec import KernelSpec, TcpListen
from tests.shells.jupyter.labs import (
    Server,
    cookie_headers,
    descendants,
    listening_inodes,
    short_folder,
    socket_inodes,
    unix_spec,
    wait_for,
)

pytestmark = pytest.mark.jupyter

PASSWORD = "correct horse"  # a fixture's
HOSTILE = """
c.ServerApp.token = c.NotebookApp.token = ''
c.ServerApp.password = c.NotebookApp.password = ''
c.ServerApp.ip = '*'
c.ServerApp.port = 1234
c.ServerApp.sock = '/tmp/elsewhere.sock'
c.ServerApp.base_url = '/mine/'
c.ServerApp.certfile = '/home/her/cert.pem'
c.ServerApp.cookie_secret = b'known'
c.ServerApp.root_dir = '/'
c.IdentityProvider.token = c.PasswordIdentityProvider.token = ''
c.IdentityProvider.hashed_password = c.PasswordIdentityProvider.hashed_password = ''
c.KernelManager.transport = c.ConnectionFileMixin.transport = 'tcp'
c.LabApp.default_url = '/lab/tree/hers'
c.ServerApp.tornado_settings = {'headers': {'X-Hers': 'loaded'}}
c.ServerApp.local_hostnames = ['her-alias.example.com']
"""


@pytest.fixture(scope="module", params=["lab4", "lab3"])
def venv(request):
    return request.getfixturevalue(f"{request.param}_venv")


@pytest.fixture
def place():
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def lab(venv, tmp_path_factory):
    """One running lab whose user configured everything to the contrary."""
    home = tmp_path_factory.mktemp("home")
    (home / ".jupyter").mkdir()
    for file in ("jupyter_server_config.py", "jupyter_lab_config.py"):
        (home / ".jupyter" / file).write_text(HOSTILE)
    operators = home / "site.py"
    operators.write_text("c = get_config()\nc.LabApp.default_url = '/lab/tree/operators'\nc.ServerApp.token = ''\n")
    with short_folder() as place:
        spec = unix_spec(
            place,
            venv=str(venv),
            password_hash=hash_password(PASSWORD),
            config_files=(str(operators),),
            root_dir=str(home),
            args=("--ServerApp.token=from-args",),
            env={"ODD": "100% $HOME 'quoted' \"and\" ünïcode"},
        )
        server = Server(spec, home, place, hostnames=["lab.example.com"]).start()
        try:
            server.get("api")
            yield server
        finally:
            server.close()


async def test_probe_gets_an_answer(lab):
    """A probe succeeds at the lab's own address, and says what is wrong at another."""
    await Prober().probe(lab.spec.listen, "/alice/", is_lab=True, timeout_s=30)
    with pytest.raises(ProbeError, match="answered 404 to GET /bob/api"):
        await Prober().probe(lab.spec.listen, "/bob/", is_lab=True, timeout_s=30)


def test_users_configuration_is_loaded_but_below_ours(lab):
    """The user's files and the operator's take effect, in that order, wherever jlabd has nothing to say."""
    assert lab.get("login").headers["X-Hers"] == "loaded"
    answer = lab.get("")
    assert answer.status == 302
    assert answer.headers["Location"].startswith("/alice/lab/tree/operators")
    assert lab.request("GET", "../mine/api").status == 404


def test_nothing_opens_without_a_secret(lab):
    """Neither an empty token nor the one in the arguments nor a foreign cookie opens the lab."""
    assert lab.get("api/kernels").status == 403
    assert lab.get("api/kernels?token=").status == 403
    assert lab.get("api/kernels", Authorization="token from-args").status == 403
    assert lab.get("api/kernels", Authorization="token wrong").status == 403


def test_token_opens(lab):
    """The token opens the lab by header and by link."""
    assert lab.get("api/kernels", **lab.by_token).status == 200
    assert lab.get(f"api/kernels?token={lab.secrets.token}").status == 200


def test_password_opens_and_a_wrong_one_does_not(lab):
    """The login form lets in who knows the password, and nobody else."""
    answer, cookies = lab.log_in(PASSWORD)
    assert answer.status == 302
    assert lab.get("api/kernels", **cookie_headers(cookies)).status == 200
    answer, cookies = lab.log_in("wrong")
    assert answer.status == 401
    assert lab.get("api/kernels", **cookie_headers(cookies)).status == 403


def test_unknown_host_is_refused(lab):
    """Only the names that nginx serves, those the user added and the local ones are answered."""
    assert lab.get("api", Host="lab.example.com").status == 200
    assert lab.get("api", Host="lab.example.com:8080").status == 200
    assert lab.get("api", Host="her-alias.example.com").status == 200
    assert lab.get("api", Host="evil.example.com").status == 403


async def test_activity_counts_kernels_without_being_activity(lab):
    """The lab's own count of kernels is had with the token, and asking does not count as activity."""
    before = await activity(lab.spec.listen, "/alice/", lab.secrets.token, 30)
    kernel = lab.start_kernel()
    during = await activity(lab.spec.listen, "/alice/", lab.secrets.token, 30)
    again = await activity(lab.spec.listen, "/alice/", lab.secrets.token, 30)
    assert during.kernels == before.kernels + 1
    assert again.last_activity == during.last_activity
    lab.request("DELETE", f"api/kernels/{kernel}", headers=lab.by_token)


def test_kernel_runs_on_private_sockets_and_knows_no_secret(lab):
    """A kernel computes, on sockets that only its user can open; no secret is in anybody's argv or environment."""
    kernel = lab.start_kernel()
    assert lab.execute(kernel, "1+1") == "2"
    connection = json.loads(Path(lab.folder, "rt", f"kernel-{kernel}.json").read_text())
    assert connection["transport"] == "ipc"
    assert connection["ip"].startswith(lab.folder)
    assert lab.execute(kernel, "import os; print(os.environ['ODD'])").strip() == lab.spec.env["ODD"]
    assert "LISTEN_" not in lab.execute(kernel, "print(*os.environ)")
    assert lab.execute(kernel, "print(os.getcwd())").strip() == lab.spec.root_dir
    family = descendants(lab.process.pid)
    assert len(family) >= 2
    tcp, ours = listening_inodes("tcp", "tcp6"), os.fstat(lab.listener.fileno()).st_ino
    for pid in family:
        # ipykernel's own pipe for the output of forks, which takes nothing without its uuid, is always on TCP.
        assert len(socket_inodes(pid) & tcp) <= (pid != lab.process.pid)
        assert (ours in socket_inodes(pid)) == (pid == lab.process.pid)
        visible = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        for secret in (lab.secrets.token, lab.secrets.password_hash, lab.secrets.cookie_secret, PASSWORD):
            assert secret.encode() not in visible
    lab.request("DELETE", f"api/kernels/{kernel}", headers=lab.by_token)


def test_runtime_files_are_the_users_alone(lab):
    """Connection files and sockets of the kernels lie in a folder that nobody else can enter."""
    runtime = Path(lab.folder, "rt")
    assert runtime.stat().st_mode & 0o077 == 0
    assert any(runtime.glob("jpserver-*.json"))
    assert Path(f"/proc/{lab.process.pid}/comm").read_text() == "jupyter-lab\n"


def test_no_secret_in_the_log(lab):
    """The lab's own log names neither token nor password hash, not even when a link with the token is opened."""
    lab.get(f"lab?token={lab.secrets.token}")
    log = lab.log.read_text()
    assert "running at" in log
    assert lab.secrets.token not in log
    assert lab.secrets.password_hash not in log


def test_clients_that_vanish_do_no_harm(lab):
    """Connections that are reset while they wait or in the middle of a request leave the lab well."""
    for request in (b"", b"GET /alice/api HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /alice/la"):
        for _ in range(20):
            with lab.connect() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(request)
    assert lab.get("api").status == 200
    assert lab.process.poll() is None


def test_restart_keeps_requests_waiting(venv, place, tmp_path):
    """A request made before the server exists, or while it restarts, is answered; the socket outlives every server."""
    server = Server(unix_spec(place, name="again", venv=str(venv)), tmp_path, place)
    inode = Path(server.spec.listen.path).stat().st_ino
    try:
        for _ in range(2):
            with server.connect() as early:
                early.sendall(b"GET /again/api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                server.start()
                early.settimeout(60)
                assert early.recv(100).startswith(b"HTTP/1.1 200")
            assert server.stop() == 0
            assert Path(server.spec.listen.path).stat().st_ino == inode
    finally:
        server.close()


async def test_tcp_socket_is_inherited(venv, place, tmp_path):
    """On a TCP port the lab serves the very socket that the daemon bound, whatever port its user prefers."""
    (tmp_path / ".jupyter").mkdir()
    (tmp_path / ".jupyter" / "jupyter_server_config.py").write_text("c.ServerApp.port = 1\nc.ServerApp.ip = '*'\n")
    spec = unix_spec(place, name="tcp", venv=str(venv), kernel=KernelSpec(transport="tcp"))
    spec = spec.__class__(name="tcp", listen=TcpListen("127.0.0.1", 0), venv=str(venv), allow_root=True)
    server = Server(spec, tmp_path, place).start()
    try:
        await Prober().probe(server.spec.listen, "/", is_lab=True, timeout_s=60)
        assert server.get("api", Host="evil.example.com").status == 403
        tcp = listening_inodes("tcp", "tcp6") & socket_inodes(server.process.pid)
        assert tcp == {os.fstat(server.listener.fileno()).st_ino}
        info = json.loads(next(Path(server.folder, "rt").glob("jpserver-*.json")).read_text())
        assert info["port"] == server.spec.listen.port
    finally:
        server.close()


def runtime_folder(server):
    """Where a kernel of this server finds its connection file."""
    ask = "import ipykernel; print(ipykernel.get_connection_file())"
    return Path(server.execute(server.start_kernel(), ask).strip()).parent


def test_kernels_work_in_a_folder_with_a_long_name(venv, place, tmp_path):
    """Where the private folder's path is too long for a socket's, the kernels' sockets are elsewhere, as private."""
    server = Server(unix_spec(place, name="long", venv=str(venv)), tmp_path, place, folder_parent="l" * 60).start()
    used = []
    try:
        used.append(runtime_folder(server))
        server.stop()
        used[0].chmod(0o755)  # as if somebody else had made it
        server.start()
        used.append(runtime_folder(server))
        assert used[0] != used[1]
        assert used[1].stat().st_mode & 0o077 == 0
        assert not any(folder.is_relative_to(place) for folder in used)
    finally:
        server.close()
        for folder in used:
            shutil.rmtree(folder)


def test_unwritable_home_is_no_obstacle(venv, place, tmp_path):
    """A lab and its kernels run although nothing can be written to HOME, and the log says so."""
    (tmp_path / "file").touch()
    work = tmp_path / "work"
    work.mkdir()
    spec = unix_spec(place, name="homeless", venv=str(venv), root_dir=str(work))
    server = Server(spec, tmp_path / "file" / "home", place).start()
    try:
        kernel = wait_for(server.start_kernel)
        assert server.execute(kernel, "1+1") == "2"
        assert "is lost when the lab stops" in server.log.read_text()
        assert server.get("lab/api/settings/", **server.by_token).status == 200
    finally:
        server.close()
