"""`kernel.asyncio_run`: notebooks run what plain programs run, on JupyterLab 4 and 3.6."""

import json

import pytest
from rig.browser import Browser, run_cell
from rig.daemon import daemons
from rig.nginx import Nginx

pytestmark = pytest.mark.jupyter

DEFINE = """
import asyncio
async def main():
    await asyncio.sleep(0.01)
    return 42
async def slow():
    # Said while it waits: an interrupt in a step of its own would end it there.
    asyncio.get_running_loop().call_soon(lambda: print('begun', flush=True))
    try:
        await asyncio.sleep(100)
    finally:
        print('ended', flush=True)
loop = asyncio.get_event_loop()
try:
    import nest_asyncio2 as nest
except ImportError:
    import nest_asyncio as nest
"""
CELLS = [
    ("asyncio.run(main())", "42"),
    ("await main()", "42"),
    ("task = asyncio.create_task(main()); asyncio.run(main()), await task", "(42, 42)"),
    ("loop.run_until_complete(main())", "42"),
    ("loop.run_until_complete(asyncio.gather(main(), main()))", "[42, 42]"),
    ("task = loop.create_task(main()); loop.run_until_complete(task)", "42"),
    ("await main()", "42"),
    ("asyncio.run(main(), debug=True), await main()", "(42, 42)"),
    ("own = asyncio.new_event_loop(); own.run_until_complete(main())", "42"),
    ("nest.apply(); asyncio.run(main()), loop.run_until_complete(main())", "(42, 42)"),
    ("await main()", "42"),
]


LAB = """
[instance.{name}]
venv = "{venv}"
kernel = {{ asyncio_run = true }}
env = {{ PYTHONSTARTUP = "{{folder}}/own.py" }}
root_dir = "{{folder}}/home"
"""


@pytest.fixture(scope="module")
def place(nginx_binary, lab4_venv, lab3_venv):
    """Labs of both versions with `asyncio_run`, and with a startup file of their owner's: (daemon, nginx)."""
    nginx = Nginx(nginx_binary).prepare()
    with daemons() as make:
        config = LAB.format(name="four", venv=lab4_venv) + LAB.format(name="three", venv=lab3_venv)
        daemon = make(config, nginx=nginx.settings())
        (daemon.folder / "own.py").write_text("mine = 'of the owner'\n")
        daemon.start()
        nginx.start()
        for name in ("four", "three"):
            daemon.wait_for(name, "ready")
        yield daemon, nginx
    nginx.stop()


@pytest.fixture(params=["four", "three"])
def browser(request, place):
    """A visitor of such a lab."""
    daemon, nginx = place
    visitor = Browser(nginx.port, f"/{request.param}/")
    assert visitor.follow_link(daemon.token(request.param)).status_code == 200
    yield visitor
    left = [path.name for path in (daemon.folder / "home").rglob("*") if b"jlabd" in path.name.encode()]
    assert left == []  # nothing of ours in the home


def test_notebooks_run_what_programs_run(browser):
    """Every way in which people run coroutines works, in turn and interrupted; names and startup are the owner's."""
    kernel = browser.start_kernel()
    ours = "[name for name in globals() if 'jlabd' in name.lower()], __doc__[:21]"
    assert browser.execute(kernel, ours) == "([], 'Automatically created')"
    assert browser.execute(kernel, "mine") == "'of the owner'"
    browser.execute(kernel, DEFINE)
    # Before anything has asked for nest_asyncio, and afterwards.
    assert browser.execute(kernel, "asyncio.run(main()), await main()") == "(42, 42)"
    assert interrupted(browser, kernel, "asyncio.run(slow())") == "begun\nended\nKeyboardInterrupt"
    assert [browser.execute(kernel, cell) for cell, _ in CELLS] == [result for _, result in CELLS]
    assert interrupted(browser, kernel, "loop.run_until_complete(slow())") == "begun\nKeyboardInterrupt"
    assert interrupted(browser, kernel, "asyncio.run(slow())") == "begun\nended\nKeyboardInterrupt"
    assert browser.execute(kernel, "asyncio.run(main()), await main()") == "(42, 42)"


def interrupted(browser, kernel, code):
    """Run `code`, interrupt the kernel when it says that it has begun, and return all that came of it."""
    channel = Interrupting(browser, kernel)
    try:
        return run_cell(channel, code)
    finally:
        channel.close()


class Interrupting:
    """A kernel's websocket whose owner presses the button as soon as a cell prints."""

    def __init__(self, browser, kernel):
        self.browser = browser
        self.kernel = kernel
        self.channel = browser.connect(kernel)
        self.send = self.channel.send
        self.close = self.channel.close
        self.pressed = False

    def recv(self):
        """Return the next message; an error is told like something that was printed."""
        message = json.loads(self.channel.recv())
        if message["msg_type"] == "stream" and not self.pressed:
            self.pressed = True
            answer = self.browser.post(f"api/kernels/{self.kernel}/interrupt")
            assert answer.status_code == 204, answer.text
        if message["msg_type"] == "error":
            message |= {"msg_type": "stream", "content": {"text": message["content"]["ename"]}}
        return json.dumps(message)
