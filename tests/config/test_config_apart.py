"""The configuration read by a process of its own comes out as if it had been read here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jlabd
from jlabd.config.apart import reading_command, what_was_read
from jlabd.config.problems import ConfigError
from jlabd.config.read import load

TEXT = """
[daemon]
include = "{folder}/more/*.toml"
[nginx]
server_name = "lab.example.com"
[defaults]
user = "root"
allow_root = true
limits.memory_max = "2G"
[instance.ann]
env = {{ GREETING = "günstig", PERCENT = "100%" }}
restart.initial = 0
[instance.bob]
command = ["/bin/cat", "{{port}}"]
"""


@pytest.fixture
def main(tmp_path):
    """A configuration with all kinds of values, and an included file with a mistake."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more/eve.toml").write_text("[instance.eve]\nuser = 'root'\nnonsense = 1\n")
    path = tmp_path / "jlabd.toml"
    path.write_text(TEXT.format(folder=tmp_path))
    return path


def read_apart(path):
    """Run the process; return what was read."""
    done = subprocess.run(reading_command(str(path)), capture_output=True, text=True, check=False)
    return what_was_read(str(path), done.returncode, done.stderr + done.stdout)


def test_same_as_here(main):
    """Specs, problems and broken files are equal, and what cannot be changed still cannot be."""
    apart = read_apart(main)
    assert apart == load(main)
    assert list(apart.configuration.instances) == ["ann", "bob"]
    assert [problem.key for problem in apart.problems] == ["instance.eve.nonsense"]
    with pytest.raises(TypeError):
        apart.configuration.instances["more"] = apart.configuration.instances["ann"]


def test_what_is_wrong_is_told(main):
    """A mistake in the main file is raised with all problems, as here."""
    main.write_text(main.read_text() + "[nonsense]\n")
    with pytest.raises(ConfigError) as here:
        load(main)
    with pytest.raises(ConfigError) as apart:
        read_apart(main)
    assert apart.value.problems == here.value.problems


@pytest.mark.parametrize(
    "said", ["", "Killed", "Traceback …\nMemoryError", "aGVsbG8="], ids=["", "word", "lines", "b64"]
)
def test_a_process_that_fails(said):
    """A process that ended without a word, or with words that we do not know, is a problem of the file."""
    with pytest.raises(ConfigError) as error:
        what_was_read("/etc/jlabd.toml", 137, said)
    (problem,) = error.value.problems
    assert problem.file == "/etc/jlabd.toml"
    assert (said.splitlines() or ["137"])[-1] in problem.message


def test_another_jlabd_on_disk(main, tmp_path):
    """What a newer jlabd reads is not taken: its values have other fields, which a pickle does not name."""
    package = Path(jlabd.__file__).parent
    newer = shutil.copytree(package, tmp_path / "newer/jlabd", ignore=shutil.ignore_patterns("__pycache__"))
    spec = (newer / "spec.py").read_text()
    added = spec.replace("    allow_root: bool = False\n", "    newcomer: int = 0\n    allow_root: bool = False\n")
    assert added != spec
    (newer / "spec.py").write_text(added)
    here, there = (f"insert(0, {str(package.parent)!r})" for package in (package, newer))
    command = [word.replace(here, there) for word in reading_command(str(main))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with pytest.raises(ConfigError, match="jlabctl reexec"):
        what_was_read(str(main), done.returncode, done.stdout)


def test_only_what_is_ours_is_unpickled(main):
    """The last words of a process that failed may come from anywhere."""
    done = subprocess.run(reading_command(str(main)), capture_output=True, text=True, check=True)
    with pytest.raises(ConfigError, match="could not be read"):
        what_was_read(str(main), 1, f"ValueError: odd text\n{done.stdout}")


def test_the_daemon_stays_small():
    """The daemon itself imports nothing of what reading needs."""
    asked = "import sys, jlabd.daemon.app; print({'pydantic', 'tomlkit', 'tomllib', 'argon2'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "set()\n"
