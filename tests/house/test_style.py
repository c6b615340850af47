"""The tools that keep the house in order, run as tests: side by side, for two of them take long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

TOOLS = {
    "mypy": [sys.executable, "-m", "mypy"],
    # The pure core is tested whole by its own tests alone: each line and each branch of what decides; not by chance.
    "every branch of the core is taken": [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/core"),
        *("--ignore", "tests/core/test_invariants.py", "--cov=jlabd.core", "--cov-branch", "--cov-fail-under=100"),
        "--cov-report=term-missing:skip-covered",
    ],
    "ruff check": [BIN / "ruff", "check", "--no-cache", "."],
    "ruff format": [BIN / "ruff", "format", "--no-cache", "--check", "."],
    "mypy of the set-up": [sys.executable, "-m", "mypy", "--cache-dir", os.devnull, "packaging/venv.py"],
    "import contracts": [BIN / "lint-imports", "--no-cache"],
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """All tools at work: {tool: (process, what it says)}."""
    folder, began = tmp_path_factory.mktemp("tools"), {}
    try:
        for tool, command in TOOLS.items():
            said = folder / tool
            with said.open("wb") as output:
                process = subprocess.Popen(
                    command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
            began[tool] = process, said
        yield began
    finally:
        for process, _ in began.values():
            process.kill()
            process.wait()


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_has_nothing_to_say(running, tool):
    """Every tool of the house passes over the whole tree."""
    process, said = running[tool]
    assert process.wait() == 0, said.read_text(errors="replace")[-5000:]
