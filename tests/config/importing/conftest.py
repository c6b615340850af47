import pytest

from tests.config.importing.given import Files


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder to import from, on a machine with alice, bob and carol."""
    return Files(tmp_path, monkeypatch)
