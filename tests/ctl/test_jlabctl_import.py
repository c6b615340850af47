"""`jlabctl import` as a process of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.ctl.command import COMMAND, environment, jlabctl

PROGRAM = "[program:x]\nuser=bob\nstopsignal=INT\ncommand=/v/bin/jupyter lab --port=8899\n"

AS_NOBODY = """
import os, sys
from jlabd.config.importers.__main__ import main  # while the tests' own Python can be read
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main())
"""


async def test_prints_and_changes_nothing(tmp_path):
    """The configuration comes on stdout, with exit code 0 and without a daemon."""
    (tmp_path / "x.ini").write_text(PROGRAM)
    before = sorted(tmp_path.iterdir())
    code, out, err = await jlabctl("/nonexistent", "import", str(tmp_path / "x.ini"), "--name", "research")
    assert (code, err) == (0, "")
    assert '[instance.research]\nuser = "bob"\n' in out.decode()
    assert sorted(tmp_path.iterdir()) == before


async def test_error_names_the_line(tmp_path):
    """What is wrong with a file is one line on stderr, harmless to a terminal, and exit code 1."""
    (tmp_path / "x\x1b[31m.ini").write_text("[program:x]\nuser bob\n")
    code, out, err = await jlabctl("/nonexistent", "import", str(tmp_path / "x\x1b[31m.ini"))
    assert (code, out) == (1, b"")
    assert err == f"jlabctl: {tmp_path}/x\\x1b[31m.ini:2: 'user bob' is neither a [section] nor KEY = VALUE in one\n"


@pytest.mark.parametrize("words", [["import"], ["import", "x", "--name", "a b"], ["import", "x", "--name", ""]])
async def test_usage(words):
    """A wrong command line is exit code 2."""
    assert (await jlabctl("/nonexistent", *words))[0] == 2


async def test_file_called_like_an_option(tmp_path):
    """A file whose name begins with a dash is a file behind --."""
    code, _, err = await jlabctl("/nonexistent", "import", "--", "--name")
    assert (code, "--name: cannot be read" in err) == (1, True)


def test_reader_that_goes_away(tmp_path):
    """`| head` sees no traceback."""
    programs = "".join(PROGRAM.replace("program:x", f"program:x{n}") for n in range(400))
    (tmp_path / "x.ini").write_text(programs)
    command = subprocess.Popen(
        [*COMMAND, "import", str(tmp_path / "x.ini")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment("/nonexistent"),
    )
    assert command.stdout.readline().startswith(b"# What")
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    assert command.wait(60) == 0


@pytest.mark.root
def test_any_user():
    """An ordinary user imports what she may read; what she may not is an error."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "x.ini").write_text(PROGRAM)
        (folder / "secret.ini").write_text(PROGRAM)
        (folder / "secret.ini").chmod(0o600)
        for file, code, words in (("x.ini", 0, "[instance.x]"), ("secret.ini", 1, "cannot be read: Permission denied")):
            argv = [sys.executable, "-c", AS_NOBODY, str(folder / file)]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert (done.returncode, words in done.stdout + done.stderr) == (code, True), done


def test_other_commands_do_not_pay():
    """Asking for help imports nothing of what import needs."""
    code = "import sys; sys.argv = ['jlabctl', 'import', '--help']\ntry:\n    from jlabd.ctl.main import main; main()\n"
    code += (
        "finally:\n    print(sorted(m for m in sys.modules if m.startswith(('jlabd.config', 'pydantic', 'tomlkit'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
