"""A fake daemon behind the real control socket."""

import pytest

from tests.shells.control.fakes import FakeSupervisor, served


@pytest.fixture
def supervisor():
    return FakeSupervisor(alice="alice", bob="bob")


@pytest.fixture
async def path(supervisor):
    async with served(supervisor) as path:
        yield path
