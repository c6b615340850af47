"""Real JupyterLabs, 4 and 3.6, forked: they work, and nothing of the parent's borrowed identity survives in them."""

import json
import os
import signal
from pathlib import Path

import pytest

from jlabd.jupyter import folder as folders
from jlabd.jupyter.plan import plan
from jlabd.jupyter.settings import encode, lab_settings
from jlabd.processes.exits import wait_exit
from jlabd.warm.birth import Descriptors
from tests.shells.jupyter.labs import Server, short_folder, unix_spec, wait_for

pytestmark = pytest.mark.jupyter

# At its end the lab looks through all of its objects for whom the parent pretended to be, and where.
LOOK = """
import atexit, gc, json, os
def texts(value):
    if type(value) in (str, bytes):
        yield value
    elif type(value) is dict and not gc.is_tracked(value):
        yield from (part for pair in value.items() for part in pair if type(part) in (str, bytes))
    elif type(value) is tuple and not gc.is_tracked(value):
        yield from (part for part in value if type(part) in (str, bytes))
def look():
    gc.unfreeze()
    needle = {str: "".join(("nobody", "-at-home"))}
    needle[bytes] = needle[str].encode()
    objects = gc.get_objects()
    found = [
        [type(holder).__name__, repr(text)]
        for holder in objects if holder is not needle and type(holder) is not type(os)
        for value in gc.get_referents(holder) if value is not needle
        for text in texts(value) if needle[type(text)] in text
    ]
    with open(os.path.expanduser("~/found"), "w") as file:
        json.dump({"found": found, "objects": len(objects), "cwd": os.getcwd()}, file)
atexit.register(look)
"""


@pytest.mark.parametrize("version", ["lab4", "lab3"])
async def test_a_real_lab(nursery, tmp_path, request, version):
    """A forked lab answers, runs kernels and terminals, keeps its user's settings at home, and ends as asked."""
    venv = request.getfixturevalue(f"{version}_venv")
    (tmp_path / "look.py").write_text(LOOK)
    with short_folder() as place:
        spec = unix_spec(place, venv=str(venv), config_files=(str(tmp_path / "look.py"),), root_dir=str(tmp_path))
        server = Server(spec, tmp_path, place)
        settings = encode(lab_settings(server.spec, server.secrets))
        folder = folders.make_folder(server.labs, spec.name, 1, None, settings)
        launch = plan(
            spec,
            server.account,
            folder=folder,
            launcher_dir=nursery._launcher_dir,
            relay_python="",
            mark="test",
            switch_user=False,
        )
        given = Descriptors(nursery.log.fileno(), server.listener.fileno(), nursery.notify, None)
        process, why_cold = await nursery.fork(str(venv), launch, given)
        assert why_cold == ""
        try:
            assert wait_for(lambda: server.get("api").status == 200)
            assert server.execute(server.start_kernel(), "import os; os.path.expanduser('~')") == repr(str(tmp_path))
            setting = "lab/api/settings/@jupyterlab/apputils-extension:themes"
            headers = {**server.by_token, "Content-Type": "application/json"}
            body = json.dumps({"raw": '{"theme": "JupyterLab Dark"}'})
            assert server.request("PUT", setting, body, headers).status == 204
            assert server.request("POST", "api/terminals", "{}", headers).status == 200
        finally:
            process.signal(signal.SIGTERM)
            ended = await wait_exit(process)
            server.listener.close()
    assert ended.code == 0
    kept = tmp_path / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    assert "Dark" in kept.read_text()
    found = json.loads((tmp_path / "found").read_text())
    assert found["objects"] > 30_000
    assert found["cwd"] == str(tmp_path)
    assert found["found"] == []
    assert os.listdir(Path(nursery._launcher_dir, "nobody-at-home")) == []
