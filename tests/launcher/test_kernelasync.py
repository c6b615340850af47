"""asyncio inside a running loop, and what a kernel runs first, in every Python that is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jlabd.jupyter.launchers import SOURCE

OLDEST = (3, 8)
PYENV = Path("~/.pyenv/versions").expanduser()

CELL = """
import asyncio, sys
names = {"__name__": "apart"}
with open(sys.argv[1]) as file:
    exec(file.read(), names)
names["patch"]()

async def main():
    await asyncio.sleep(0.001)
    return asyncio.get_running_loop()

async def fails():
    await asyncio.sleep(0.001)
    raise ZeroDivisionError

left = []
async def leaves():
    async def rest():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            left.append("cancelled")
            raise
    asyncio.ensure_future(rest())
    await asyncio.sleep(0.001)

async def cell():
    outer, task = asyncio.get_running_loop(), asyncio.current_task()
    def unharmed():
        assert asyncio.get_running_loop() is outer and asyncio.current_task() is task
        assert asyncio.get_event_loop() is outer

    ours = asyncio.ensure_future(main())
    inner = asyncio.run(main())
    assert inner is not outer and inner.is_closed()
    unharmed()
    assert not ours.done()  # the loop outside waits meanwhile, as for any call
    assert await ours is outer
    try:
        asyncio.run(fails())
        raise AssertionError
    except ZeroDivisionError:
        pass
    unharmed()
    asyncio.run(leaves())
    assert left == ["cancelled"]
    assert asyncio.run(cell_within()) is not outer
    unharmed()
    own = asyncio.new_event_loop()
    assert own.run_until_complete(main()) is own
    own.close()
    unharmed()
    if hasattr(asyncio, "Runner"):
        with asyncio.Runner() as runner:
            assert runner.run(main()) is runner.run(main()) is not outer
        unharmed()
    if hasattr(asyncio, "timeout"):
        async with asyncio.timeout(60):
            asyncio.run(main())
    await asyncio.sleep(0.001)
    pending = main()
    try:
        outer.run_until_complete(pending)  # without nest_asyncio: what asyncio says itself
        raise AssertionError
    except RuntimeError as error:
        assert "already running" in str(error)
    pending.close()

async def cell_within():
    return asyncio.run(main())

asyncio.run(cell())
print("done")
"""


def pythons():
    """Return the Pythons that a kernel may have, this one first."""
    found = [Path(sys.executable)]
    for folder in sorted(PYENV.glob("3.*")):
        version = tuple(map(int, folder.name.split(".")[:2]))
        if version >= OLDEST and version != sys.version_info[:2]:
            found.append(folder / "bin/python")
    return found


@pytest.mark.parametrize("python", pythons(), ids=lambda path: path.parent.parent.name)
def test_within_a_running_loop(python):
    """Another loop runs while the one outside waits; whatever happens, that finds itself as it was."""
    argv = [python, "-W", "error", "-I", "-S", "-c", CELL, SOURCE / "kernelasync.py"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.parametrize("python", pythons(), ids=lambda path: path.parent.parent.name)
def test_a_terminals_python(python, tmp_path):
    """A Python that is no kernel runs the owner's file only, among its own names, and keeps nothing of ours."""
    own = tmp_path / "own.py"
    own.write_text("mine = 5\n")
    env = {"PYTHONSTARTUP": str(SOURCE / "kernelstart.py"), "JLABD_PYTHONSTARTUP": str(own)}
    ask = (
        "import os; print(mine, sorted(n for n in globals() if not n.startswith('__')), os.environ['PYTHONSTARTUP'])\n"
    )
    done = interactive(python, ask, env)
    assert done == f"5 ['mine', 'os'] {own}\n"
    asyncio_is_pythons = "import asyncio; print(asyncio.run.__module__, hasattr(asyncio.run, '__wrapped__'))\n"
    assert interactive(python, asyncio_is_pythons, env) == "asyncio.runners False\n"


def interactive(python, text, env):
    """Return what the prompts of `python` answer."""
    done = subprocess.run(
        [python, "-i", "-q"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], **env},
    )
    return done.stdout


def test_owners_file_that_is_not_there(tmp_path):
    """A PYTHONSTARTUP that cannot be opened is told as Python itself tells it."""
    env = {"PYTHONSTARTUP": str(SOURCE / "kernelstart.py"), "JLABD_PYTHONSTARTUP": str(tmp_path / "gone.py")}
    done = subprocess.run(
        [sys.executable, "-i", "-q"],
        input="print(1)\n",
        capture_output=True,
        text=True,
        check=True,
        env=env,
        timeout=60,
    )
    assert done.stdout == "1\n"
    assert "Could not open PYTHONSTARTUP\nFileNotFoundError:" in done.stderr
