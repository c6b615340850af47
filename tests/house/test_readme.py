"""README.md tells the truth about its commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import TOP

README = (TOP / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```(?:sh|console)\n(.*?)```", README, re.DOTALL))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)", SHELL))))
def test_make_target_exists(target):
    """Each `make …` of the README is a target."""
    done = subprocess.run(["make", "--dry-run", target], cwd=TOP, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\bjlabctl ([a-z-]+)", SHELL))))
def test_jlabctl_command_exists(command):
    """Each `jlabctl …` of the README is a command."""
    program = Path(sys.executable).parent / "jlabctl"
    done = subprocess.run([program, command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readme_shows_how_to_begin():
    """The README names the two commands that a newcomer needs."""
    assert "make demo" in SHELL
    assert "jlabctl status" in SHELL


def test_readme_shows_pictures():
    """Each picture of the README is there; `make screenshots` makes them."""
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert len(pictures) >= 2
    assert [picture for picture in pictures if not (TOP / picture).read_bytes().startswith(b"\x89PNG")] == []
