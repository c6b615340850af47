"""A fake daemon behind the real control socket."""

import pytest

from tests.shells.control.fakes import FakeSupervisor, served, short_folder


@pytest.fixture
def supervisor():
    return FakeSupervisor(alice="alice", bob="bob", carl=None)


@pytest.fixture
async def path(supervisor):
    async with served(supervisor) as path:
        yield path


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder
