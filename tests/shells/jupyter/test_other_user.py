"""A lab that runs as another user than the daemon, from a Python that everybody can run."""

import stat
from pathlib import Path

import pytest

from jlabd.core.launch import Account
from tests.shells.jupyter.labs import Server, descendants, short_folder, unix_spec

pytestmark = [pytest.mark.jupyter, pytest.mark.root]

STRANGER = 45678


@pytest.fixture
def place():
    with short_folder() as folder:
        yield folder


def test_lab_is_its_users_in_every_respect(user_venv, place):
    """Server, kernels and all their files are the user's, also in a home that she cannot write."""
    home = place / "home"
    home.mkdir(mode=0o755)
    stranger = Account("stranger", STRANGER, STRANGER, (STRANGER, 45679), str(home), "/bin/sh")
    server = Server(unix_spec(place, venv=str(user_venv), allow_root=False), home, place, account=stranger).start()
    try:
        kernel = server.start_kernel()
        ask = "import os; print(os.getuid(), os.getgid(), os.getgroups(), os.environ['HOME'], os.environ['USER'])"
        expected = f"{STRANGER} {STRANGER} [{STRANGER}, 45679] {home} stranger"
        assert server.execute(kernel, ask).strip() == expected
        for pid in descendants(server.process.pid):
            assert Path(f"/proc/{pid}").stat().st_uid == STRANGER
        for path in Path(server.folder).rglob("*"):
            assert path.lstat().st_uid == STRANGER
        assert stat.S_IMODE(Path(server.folder).stat().st_mode) == 0o700
        assert "is lost when the lab stops" in server.log.read_text()
        assert not any(home.iterdir())
        assert Path(server.spec.listen.path).exists()
    finally:
        server.close()
