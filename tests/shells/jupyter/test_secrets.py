"""Secrets, the files they come from, and password hashes."""

import os

import pytest

from jlabd.jupyter.adminfile import AdminFileError, read_admin_file
from jlabd.jupyter.envfile import parse, read_env_file
from jlabd.jupyter.passwords import hash_password, looks_like_hash
from jlabd.jupyter.secrets import SecretKeeper, SecretsError
from jlabd.spec import InstanceSpec, UnixListen

HASH = "sha1:0123456789ab:" + "0f" * 20
OTHER_HASH = "sha1:0123456789ab:" + "1f" * 20


@pytest.fixture
def place(tmp_path):
    """A folder without symbolic links above it."""
    return tmp_path.resolve()


def spec(**changes):
    return InstanceSpec(name=changes.pop("name", "alice"), listen=UnixListen("/x"), **changes)


def test_secrets_survive_a_restart_and_change_with_the_password(place):
    """The same key gives the same secrets; another name, password or token gives others; none shows in a repr."""
    keeper = SecretKeeper(str(place))
    first = keeper.secrets_for(spec(password_hash=HASH))
    assert first == SecretKeeper(str(place)).secrets_for(spec(password_hash=HASH))
    second = keeper.secrets_for(spec(password_hash=OTHER_HASH))
    third = keeper.secrets_for(spec(name="bob", password_hash=HASH))
    values = [value for s in (first, second, third) for value in (s.token, s.cookie_secret)]
    assert len(set(values)) == len(values)
    assert all(len(value) == 64 for value in values)
    assert not any(value in repr(first) + repr(keeper) for value in (*values, HASH))


def test_token_file_changes_the_cookie_secret_too(place):
    """A new token ends the sessions that the old one opened."""
    (place / "t").write_text("mine\n")
    (place / "t").chmod(0o600)
    keeper = SecretKeeper(str(place))
    found = keeper.secrets_for(spec(token_file=f"{place}/t"))
    assert found.token == "mine"
    assert found.cookie_secret != keeper.secrets_for(spec()).cookie_secret


def test_key_is_private(place):
    """The key is made with mode 0600, and one that others may know, or that is not a file of ours, is refused."""
    SecretKeeper(str(place))
    key = place / "secret"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(SecretsError, match="not a private file"):
        SecretKeeper(str(place))
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(SecretsError, match="damaged"):
        SecretKeeper(str(place))
    key.rename(place / "elsewhere")
    key.symlink_to("elsewhere")
    with pytest.raises(SecretsError, match="cannot use the key"):
        SecretKeeper(str(place))
    key.unlink()
    os.mkfifo(key, 0o600)
    with pytest.raises(SecretsError, match="not a private file"):
        SecretKeeper(str(place))


def test_password_hash_file(place):
    """A hash is read without its newline, and something that is no hash is refused without showing it."""
    file = place / "h"
    file.write_text(f"{HASH}\n")
    file.chmod(0o600)
    keeper = SecretKeeper(str(place))
    assert keeper.secrets_for(spec(password_hash_file=str(file))).password_hash == HASH
    for text, said in (("hunter2\n", "holds no hash"), ("", "must hold one line"), ("a b", "must hold one line")):
        file.write_text(text)
        with pytest.raises(SecretsError, match=said) as error:
            keeper.secrets_for(spec(password_hash_file=str(file)))
        assert "hunter2" not in str(error.value)


def test_admin_file_is_read_only_if_it_can_be_trusted(place):
    """A symbolic link anywhere, a second name, a stranger's hand or a wrong kind of file: not read."""
    file = place / "dir" / "f"
    file.parent.mkdir()
    file.write_text("text")
    file.chmod(0o600)
    us = {os.geteuid()}
    assert read_admin_file(str(file), us) == "text"
    with pytest.raises(AdminFileError, match="belongs to user"):
        read_admin_file(str(file), {os.geteuid() + 1})
    for mode in (0o620, 0o602):
        file.chmod(mode)
        with pytest.raises(AdminFileError, match="can be written by others"):
            read_admin_file(str(file), us)
    file.chmod(0o600)
    (place / "link").symlink_to(file)
    (place / "way").symlink_to(file.parent)
    for path in (place / "link", place / "way" / "f"):
        with pytest.raises(AdminFileError, match="symbolic link"):
            read_admin_file(str(path), us)
    (place / "second").hardlink_to(file)
    with pytest.raises(AdminFileError, match="2 names"):
        read_admin_file(str(file), us)
    os.mkfifo(place / "fifo", 0o600)
    for path in (place / "fifo", place / "dir"):
        with pytest.raises(AdminFileError, match="not a regular file"):
            read_admin_file(str(path), us)
    with pytest.raises(AdminFileError, match="No such file"):
        read_admin_file(str(place / "none"), us)
    (place / "big").write_bytes(b"x" * 5000)
    (place / "latin").write_bytes(b"\xff")
    for name, said in (("big", "larger than 4096"), ("latin", "not UTF-8")):
        (place / name).chmod(0o600)
        with pytest.raises(AdminFileError, match=said):
            read_admin_file(str(place / name), us)


def test_hash_is_what_jupyterlab_checks():
    """A made hash has JupyterLab's own form and cost, and jupyter_server accepts it for its password only."""
    from jupyter_server.auth.security import passwd_check

    hashed = hash_password("pässword $%")
    assert hashed.startswith("argon2:$argon2id$v=19$m=10240,t=10,p=8$")
    assert passwd_check(hashed, "pässword $%")
    assert not passwd_check(hashed, "password")
    assert looks_like_hash(hashed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "password",
        "argon2:",
        "argon2:$argon2id$v=19$…",
        f"{HASH} ",
        "sha1:x:y",
        "rot13:0123:" + "0f" * 20,
        HASH[:-1] + "G",
    ],
)
def test_what_is_no_hash(text):
    """A password, or a hash cut short in copying, is not taken for one."""
    assert looks_like_hash(HASH)
    assert not looks_like_hash(text)


ENVIRONMENT = r"""
# a comment
; another \
PLAIN=two words  \t
EMPTY=
  SPACED = x
QUOTED="a \"b\" \$c \n % $HOME"
SINGLE='as \is "x"'
JOINED="a"'b'c
JSON={"x": 1, 'y': [2]}
ESCAPED=a\ b\\c
LONG=one \
two
MULTI="line 1
line 2"
ÜNI=no
"""


def test_env_file_reads_as_systemd_does():
    """Comments, quotes, escapes and joined lines mean what they mean in an EnvironmentFile."""
    text = ENVIRONMENT.replace("\\t", "\t").replace("ÜNI=no\n", "UNI=ünï\r\nLAST=x")
    assert parse(text, "f") == {
        "PLAIN": "two words",
        "EMPTY": "",
        "SPACED": "x",
        "QUOTED": 'a "b" $c \\n % $HOME',
        "SINGLE": 'as \\is "x"',
        "JOINED": "abc",
        "JSON": "{\"x\": 1, 'y': [2]}",
        "ESCAPED": "a b\\c",
        "LONG": "one two",
        "MULTI": "line 1\nline 2",
        "UNI": "ünï",
        "LAST": "x",
    }


def test_env_file_errors_name_the_line():
    """What is no assignment is an error with its line, and values are not shown."""
    for text, said in ((ENVIRONMENT, "f:16: not KEY=VALUE"), ("A=1\nB='x", "f:2: a quotation"), ("A=\0", "zero byte")):
        with pytest.raises(AdminFileError, match=said):
            parse(text, "f")


def test_env_file_must_be_roots(place):
    """An environment file that somebody else could write is refused."""
    file = place / "env"
    file.write_text("A=b\n")
    file.chmod(0o644)
    assert read_env_file(str(file)) == {"A": "b"}
    file.chmod(0o666)
    with pytest.raises(AdminFileError, match="can be written by others"):
        read_env_file(str(file))
