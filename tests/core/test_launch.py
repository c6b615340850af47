"""What a process is started with."""

from __future__ import annotations

from jlabd.core.launch import Launch


def test_environment_is_not_shown():
    """A launch that ends up in a log or a traceback does not tell the environment, which may hold secrets."""
    launch = Launch(argv=("x",), env={"SECRET": "hunter2"}, cwd="/", account=None, umask=0o077)
    assert "hunter2" not in repr(launch)
