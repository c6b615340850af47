"""README.md tells the truth about its commands."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import TOP

README = (TOP / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh(?: \S+)?\n(.*?)```", README, re.DOTALL))


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


def test_pictures_are_of_the_page_as_it_is():
    """Templates and styles of the status page are those that the pictures show; else: `make screenshots`."""
    stamp = (TOP / "docs/pictures/SOURCES").read_text()
    differing = [line for line in stamp.splitlines() if not _is_so(*line.split())]
    assert differing == [], "make screenshots"
    shown = [path for room in ("status", "look") for path in TOP.glob(f"jlabd/{room}/templates/*")]
    assert [path for path in shown if str(path.relative_to(TOP)) not in stamp.split()] == [], "make screenshots"


def _is_so(digest, path):
    return (TOP / path).exists() and hashlib.sha256((TOP / path).read_bytes()).hexdigest() == digest


def test_readme_shows_pictures():
    """Each picture of the README is there; `make screenshots` makes them."""
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert len(pictures) >= 2
    assert [picture for picture in pictures if not (TOP / picture).read_bytes().startswith(b"\x89PNG")] == []
