"""docs/asyncio.md: its cells in a kernel as it is, and in one of an instance with `asyncio_run`."""

import os
from contextlib import contextmanager

import pytest
from jupyter_client.manager import KernelManager
from rig.guide import Guide

from jlabd.config.read import check
from jlabd.jupyter.launchers import SOURCE

GUIDE = Guide("asyncio.md")


@contextmanager
def kernel(folder, **env):
    """Yield a function that runs a cell and returns its result, or the error's name and words."""
    manager = KernelManager(kernel_name="python3", transport="ipc", connection_file=str(folder / "k.json"))
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONSTARTUP"}
    manager.start_kernel(env={**plain, "HOME": str(folder), "IPYTHONDIR": str(folder / "ipython"), **env})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)

        def run(code):
            told = []
            reply = client.execute_interactive(code, timeout=60, output_hook=told.append)["content"]
            if reply["status"] == "error":
                return f"{reply['ename']}: {reply['evalue']}"
            return next((m["content"]["data"]["text/plain"] for m in told if m["msg_type"] == "execute_result"), None)

        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.jupyter
def test_cells(tmp_path):
    """Without the key the program fails as the page says, and the ways around work; with the key the program works."""
    assert GUIDE.unmarked() == []
    program, others = GUIDE.commands["program"], [GUIDE.commands["await"], GUIDE.commands["thread"]]
    (tmp_path / "a").mkdir()
    with kernel(tmp_path / "a") as run:
        assert run(program) in GUIDE.text
        assert [run(cell) for cell in others] == ["'done'", "'done'"]
    (tmp_path / "b").mkdir()
    with kernel(tmp_path / "b", PYTHONSTARTUP=str(SOURCE / "kernelstart.py")) as run:
        assert [run(cell) for cell in (program, *others)] == ["'done'"] * 3


def test_configuration(tmp_path):
    """The instance that the page shows is one."""
    path = tmp_path / "jlabd.toml"
    path.write_text('daemon.include = ""\n' + GUIDE.files["/etc/jlabd.toml"])
    assert check(path, uid=0) == []
