"""What keeps a real lab awake, in both versions: connections, silent kernels, terminals; and what does not."""

import contextlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import websocket

from jlabd.jupyter.activity import activity_mark
from jlabd.jupyter.probe import Prober
from tests.shells.jupyter.labs import Server, short_folder, unix_spec, wait_for

pytestmark = pytest.mark.jupyter


@pytest.fixture(scope="module", params=["lab4", "lab3"])
def lab(request, tmp_path_factory):
    """One running lab that culls kernels."""
    venv, home = request.getfixturevalue(f"{request.param}_venv"), tmp_path_factory.mktemp("home")
    with short_folder() as place:
        spec = unix_spec(place, venv=str(venv), root_dir=str(home))
        server = Server(spec, home, place).start()
        try:
            yield server
        finally:
            server.close()


@pytest.fixture
def kernel(lab):
    """A kernel that has computed, and has nothing to do."""
    number = lab.start_kernel()
    assert lab.execute(number, "1+1") == "2"
    await_state(lab, number, {"idle"})  # it says so only after its answer
    yield number
    lab.request("DELETE", f"api/kernels/{number}", headers=lab.by_token)


def mark(lab):
    """Return what a check sees, a coroutine."""
    return activity_mark(lab.spec.listen, lab.spec.base_url, lab.secrets.token, 30)


@contextlib.contextmanager
def connection(lab, path):
    """A websocket to the lab."""
    url = f"ws://localhost{lab.spec.base_url}{path}"
    with contextlib.closing(
        websocket.create_connection(url, socket=lab.connect(), header=lab.by_token, timeout=60)
    ) as channel:
        yield channel


def channels(lab, kernel):
    """A websocket to a kernel."""
    return connection(lab, f"api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}")


def kernel_model(lab, kernel):
    """Return what the lab says of a kernel, without counting as activity."""
    return lab.get(f"api/kernels/{kernel}?no_track_activity=1", **lab.by_token).json


def await_state(lab, kernel, states):
    """Return when the lab says that the kernel is in one of the states."""
    wait_for(lambda: kernel_model(lab, kernel)["execution_state"] in states, what=f"the kernel to be {states}")


def send(channel, to, kind, content):
    """Send a request of that kind to the kernel's channel `to`."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "s", "username": ""}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": to}
    channel.send(json.dumps(message))


def compute_until(go_on, channel):
    """Have a cell run in silence until the file `go_on` exists; return without waiting for its end."""
    code = f"import os, time\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)"
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    send(channel, "shell", "execute_request", content)


def ask_beside(channel):
    """Have the kernel answer on its control channel, and say on iopub that it has: it does so while a cell runs."""
    send(channel, "control", "kernel_info_request", {})
    answered = set()
    while answered != {"reply", "idle"}:
        message = json.loads(channel.recv())
        if message["channel"] == "control":
            answered.add("reply")
        elif message["parent_header"].get("msg_type") == "kernel_info_request":
            answered |= {"idle"} & {message["content"].get("execution_state")}


async def test_nothing_happens(lab, kernel):
    """However often it is asked, the mark stays the same: checks, health probes and its status do not change it."""
    wait_for(lambda: kernel_model(lab, kernel)["connections"] == 0, what="the end of the connection")
    first = await mark(lab)
    assert first is not None
    await Prober().probe(lab.spec.listen, lab.spec.base_url, is_lab=True, timeout_s=30)
    lab.get("api/status", **lab.by_token)
    assert [await mark(lab) for _ in range(3)] == [first] * 3


async def test_somebody_is_connected(lab, kernel):
    """An open notebook keeps its lab awake, and who opened a file between two checks is noticed."""
    before = await mark(lab)
    with channels(lab, kernel) as channel:
        channel.recv()  # of the connection
        assert await mark(lab) is None
    wait_for(lambda: kernel_model(lab, kernel)["connections"] == 0, what="the end of the connection")
    lab.get("api/contents/", **lab.by_token)
    assert await mark(lab) not in {None, before}


async def test_a_kernel_that_computes_in_silence(lab, kernel, tmp_path):
    """A cell that prints nothing and that nobody watches keeps its lab awake until it ends."""
    go_on = tmp_path / "go-on"
    with channels(lab, kernel) as channel:
        compute_until(go_on, channel)
        await_state(lab, kernel, {"busy"})
        ask_beside(channel)
        assert kernel_model(lab, kernel)["execution_state"] == "busy"
        before = kernel_model(lab, kernel)["last_activity"]
    wait_for(lambda: kernel_model(lab, kernel)["connections"] == 0, what="the end of the connection")
    assert await mark(lab) is None
    assert kernel_model(lab, kernel)["last_activity"] >= before
    go_on.touch()
    await_state(lab, kernel, {"idle"})
    assert await mark(lab) is not None


def test_kernels_are_listed_at_any_time(lab):
    """Who asks for the list of kernels while some are starting gets it, each time."""
    with ThreadPoolExecutor(7) as pool:
        starting = pool.submit(lambda: [lab.start_kernel() for _ in range(8)])
        asking = [pool.submit(list_until, lab, starting.done) for _ in range(6)]
        assert {status for each in asking for status in each.result()} == {200}
    for number in starting.result():
        lab.request("DELETE", f"api/kernels/{number}", headers=lab.by_token)


def list_until(lab, done):
    """List the kernels again and again until `done()`; return how that was answered."""
    statuses = []
    while not done():
        statuses.append(lab.get("api/kernels?no_track_activity=1", **lab.by_token).status)
    return statuses


def test_the_first_cell_of_a_kernel(lab, tmp_path):
    """A cell that runs as soon as its kernel can, after a start and after a restart, is heard to compute."""
    go_on = tmp_path / "go-on"
    for _ in range(3):
        number = lab.start_kernel()
        for _ in range(2):
            with channels(lab, number) as channel:
                await_state(lab, number, {"idle", "starting"})
                compute_until(go_on, channel)
                await_state(lab, number, {"busy"})
            assert lab.request("POST", f"api/kernels/{number}/restart", "{}", lab.by_token).status == 200
        lab.request("DELETE", f"api/kernels/{number}", headers=lab.by_token)


async def test_a_terminal_that_prints(lab, tmp_path):
    """Output of a terminal that nobody watches changes the mark; a silent terminal does not."""
    go_on = tmp_path / "go-on"
    name = lab.request("POST", "api/terminals", "", lab.by_token).json["name"]
    with connection(lab, f"terminals/websocket/{name}") as channel:
        script = f"while ! [ -e {go_on} ]; do sleep 0.05; done; echo on; touch {go_on}.done"
        channel.send(json.dumps(["stdin", f"{script}\r"]))
        while "sleep" not in channel.recv():
            pass
        wait_for(lambda: lab.get("api/terminals?no_track_activity=1", **lab.by_token).json, what="the terminal")
    quiet = await settled_mark(lab)
    assert await mark(lab) == quiet
    go_on.touch()
    wait_for((tmp_path / "go-on.done").exists, what="the output")
    assert await settled_mark(lab) not in {None, quiet}
    lab.request("DELETE", f"api/terminals/{name}", headers=lab.by_token)


async def settled_mark(lab):
    """Return the mark once it stays the same: a shell may still be showing its prompt."""
    seen = []

    def same_again():
        seen.append([entry["last_activity"] for entry in terminals(lab)])
        return len(seen) > 20 and len({str(each) for each in seen[-20:]}) == 1

    wait_for(same_again, what="silence")
    return await mark(lab)


def terminals(lab):
    """Return what the lab says of its terminals."""
    return lab.get("api/terminals?no_track_activity=1", **lab.by_token).json
