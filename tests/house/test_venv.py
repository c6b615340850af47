"""packaging/venv.py: environments that are made once, and repaired when something interrupted the making."""

import subprocess
import sys
import time

import pytest

from tests.house.tree import TOP


@pytest.fixture
def make(tmp_path):
    """A call that makes one environment from one lock file (without packages, so that no network is needed)."""
    (tmp_path / "lock.txt").write_text("# nothing\n")

    def call():
        command = [sys.executable, TOP / "packaging/venv.py", tmp_path / "env", tmp_path / "lock.txt"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_what_stands_is_recognised_and_what_changed_is_noticed(make, tmp_path):
    """A second run does nothing, at once and without a word. The content of the lock decides, not its date."""
    assert "making it" in make()
    (tmp_path / "lock.txt").touch()
    begin = time.monotonic()
    assert make() == ""
    assert time.monotonic() - begin < 1
    (tmp_path / "lock.txt").write_text("# something else\n")
    assert "making it" in make()


def test_half_made_environment_is_made_again(make, tmp_path):
    """A run that was killed leaves something that the next run replaces."""
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python").write_text("half a file")
    assert "making it" in make()
    assert subprocess.run([tmp_path / "env/bin/python", "-c", ""], check=False).returncode == 0


def test_failing_pip_is_told_in_its_own_words(tmp_path):
    """When pip fails, the program fails, says why, and leaves no mark of success."""
    lock = tmp_path / "lock.txt"
    lock.write_text(f"{tmp_path}/no-such.whl --hash=sha256:{'0' * 64}\n")
    command = [sys.executable, TOP / "packaging/venv.py", tmp_path / "env", lock]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no-such.whl" in done.stderr
    assert not (tmp_path / "env/.made/lock.txt").exists()
