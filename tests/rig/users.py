"""Real accounts for the tests that switch users (root only)."""

import contextlib
import pwd
import subprocess
import uuid


@contextlib.contextmanager
def account(*groups):
    """Make a user with a home; yields her passwd entry; removed in the end, home and all."""
    name = f"jl{uuid.uuid4().hex[:8]}"
    more = ["--groups", ",".join(groups)] if groups else []
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", *more, name], check=True)
    try:
        yield pwd.getpwnam(name)
    finally:
        subprocess.run(["userdel", "--remove", "--force", name], check=False, capture_output=True)


@contextlib.contextmanager
def group():
    """Make a group; yields its name."""
    name = f"jlg{uuid.uuid4().hex[:8]}"
    subprocess.run(["groupadd", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["groupdel", name], check=False, capture_output=True)
