"""What the JupyterLab launcher says when there is no JupyterLab to launch, in any Python."""

import os
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from jlabd.core.launch import EX_CONFIG
from jlabd.jupyter.launchers import SOURCE
from tests.shells.jupyter.labs import Server, short_folder, unix_spec

PYENV = Path("~/.pyenv/versions").expanduser()


@pytest.fixture
def place():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def bare_venv(tmp_path):
    """An environment with nothing in it."""
    venv.create(tmp_path / "bare", symlinks=True, with_pip=False)
    return tmp_path / "bare"


def refusal(server):
    """Start the server, which must end with EX_CONFIG; return what it said on the pipe."""
    try:
        server.start()
        sentence = server.sentence()
        assert server.process.wait(30) == EX_CONFIG
        assert sentence in " ".join(server.log.read_text().split())
        return sentence
    finally:
        server.close()


def fake_lab(tmp_path, init, labapp="class LabApp: pass"):
    """A folder for PYTHONPATH with a package that calls itself jupyterlab."""
    package = tmp_path / "fake" / "jupyterlab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(init)
    (package / "labapp.py").write_text(labapp)
    return {"PYTHONPATH": str(package.parent)}


def test_no_jupyterlab(place, tmp_path, bare_venv):
    """An environment without JupyterLab is named, with the command that installs it."""
    sentence = refusal(Server(unix_spec(place, venv=str(bare_venv)), tmp_path, place))
    assert sentence == f"JupyterLab is not installed in {bare_venv}: run {bare_venv}/bin/pip install jupyterlab"


def test_broken_jupyterlab(place, tmp_path, bare_venv):
    """A JupyterLab that cannot be imported is told from one that is not there; the log has the traceback."""
    env = fake_lab(tmp_path, "__version__ = '4.0'", "import a_module_it_needs")
    server = Server(unix_spec(place, venv=str(bare_venv), env=env), tmp_path, place)
    sentence = refusal(server)
    assert sentence.startswith(
        f"JupyterLab in {bare_venv} is broken (ModuleNotFoundError: No module named 'a_module_it_needs'): "
        f"run {bare_venv}/bin/pip install"
    )
    assert "Traceback" in server.log.read_text()


def test_old_jupyterlab(place, tmp_path, bare_venv):
    """A JupyterLab before version 3 is too old, and the fix is said."""
    env = fake_lab(tmp_path, "__version__ = '2.3.2'")
    sentence = refusal(Server(unix_spec(place, venv=str(bare_venv), env=env), tmp_path, place))
    assert "is 2.3.2, and 3 is the oldest that works" in sentence
    assert f"{bare_venv}/bin/pip install --upgrade jupyterlab" in sentence


@pytest.mark.jupyter
def test_missing_and_broken_config_files(place, tmp_path, lab4_venv):
    """A file of `config_files` that is not there, or fails, stops the lab with its name."""
    spec = unix_spec(place, venv=str(lab4_venv), config_files=(str(tmp_path / "none.py"),))
    server = Server(spec, tmp_path, place)
    assert refusal(server) == f"config_files: cannot read {tmp_path}/none.py: No such file or directory"
    broken = tmp_path / "broken.py"
    broken.write_text("c.ServerApp.x = nonsense\n")
    server = Server(replace(spec, name="bob", config_files=(str(broken),), listen=spec.listen.__class__(f"{place}/b")),
                    tmp_path, place)  # fmt: skip
    assert refusal(server).startswith(f"config_files: {broken} fails: NameError")


def run_by_hand(python, *arguments, **options):
    command = [python, SOURCE / "lab.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_started_by_hand():
    """Without the daemon's descriptors and settings the launcher says who is meant to start it."""
    done = run_by_hand(sys.executable)
    assert (done.returncode, done.stderr) == (
        EX_CONFIG,
        "jlabd: lab.py is started by jlabd: lab.py --settings FILE [arguments of JupyterLab]\n",
    )


def test_settings_of_somebody_else_are_refused(tmp_path):
    """A settings file that others could read or write is not believed."""
    settings = tmp_path / "settings.json"
    settings.write_text("{}")
    settings.chmod(0o644)
    assert "is not a private file of this user" in run_by_hand(sys.executable, "--settings", settings).stderr
    settings.chmod(0o600)
    done = run_by_hand(sys.executable, "--settings", settings, stdin=subprocess.DEVNULL)
    assert "Descriptor 3 is not a listening socket" in done.stderr


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.9", "3.10", "3.12", "3.13"])
@pytest.mark.parametrize("script", ["lab.py", "relay.py"])
def test_every_promised_python_reads_the_scripts(version, script, tmp_path):
    """The scripts run as far as their first refusal under every promised Python; older ones are told that they are."""
    pythons = sorted(PYENV.glob(f"{version}.*/bin/python")) or [
        path for path in [Path(f"/usr/bin/python{version}")] if path.exists()
    ]
    if not pythons:
        pytest.skip(f"NO PYTHON {version}: the launcher is not tested with it")
    settings = tmp_path / "settings.json"
    arguments = ["--settings", settings] if script == "lab.py" else []
    done = subprocess.run(
        [pythons[0], "-B", "-W", "error", SOURCE / script, *arguments], capture_output=True, text=True, check=False,
        env={"PATH": os.defpath},
    )  # fmt: skip
    assert done.returncode == EX_CONFIG, done.stderr
    if script == "relay.py":
        expected = "relay.py is started by jlabd"
    elif version in ("3.6", "3.7"):
        expected = f"is {version}"
    else:
        expected = f"Cannot read the settings {settings}: [Errno 2]"
    assert expected in done.stderr
