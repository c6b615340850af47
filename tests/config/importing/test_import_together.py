"""Files that speak of one lab, names, and input that nobody should have to expect."""

import os
import random
import time

import pytest

from jlabd.config.importers import gather
from jlabd.config.importers.findings import ImportFailedError, quoted
from tests.config.importing.given import HASH


def test_two_labs_with_their_files(files):
    """Every configuration, script and server finds its own lab."""
    given = {}
    for name, port in (("alice", 8801), ("bob", 8802)):
        home = f"/home/{name}"
        given[f"{name}.ini"] = f"[program:{name}]\nuser={name}\ndirectory={home}\ncommand={home}/run-{name}.sh\n"
        given[f"run-{name}.sh"] = f"#!/bin/sh\nexec {home}/venv/bin/jupyter lab --config={home}/{name}_config.py\n"
        given[f"{name}_config.py"] = (
            f"c.ServerApp.port = {port}\nc.ServerApp.ip = 'localhost'\nc.ServerApp.password = '{HASH}'\n"
        )
        given[f"{name}.conf"] = (
            f"server {{ server_name {name}.example.org; location / {{ proxy_pass http://127.0.0.1:{port}; }} }}"
        )
    result = files.imported(dict(sorted(given.items())))
    for name in ("alice", "bob"):
        assert result.table["instance"][name] == {
            "user": name,
            "root_dir": f"/home/{name}",
            "venv": f"/home/{name}/venv",
            "server_name": f"{name}.example.org",
            "password_hash": HASH,
        }


def test_config_in_the_home_of_the_user(files):
    """A configuration in ~/.jupyter is the lab's whose user lives there."""
    programs = "".join(f"[program:{name}]\nuser={name}\ncommand=/v/bin/jupyter lab\n" for name in ("carol", "bob"))
    result = files.imported(
        {"labs.ini": programs, "carol/.jupyter/jupyter_lab_config.py": "c.ServerApp.root_dir='/srv/c'\n"}
    )
    assert result.table["instance"]["carol"]["root_dir"] == "/srv/c"
    assert "root_dir" not in result.table["instance"]["bob"]


def test_command_line_counts_more(files):
    """As in JupyterLab the command line counts more than the file, and the loser is named."""
    files.write("c.py", "c.ServerApp.port = 1111\nc.ServerApp.root_dir = '/srv/a'\n")
    result = files.one(
        "x.ini", "[program:x]\nuser=bob\ncommand=/v/bin/jupyter lab --config={folder}/c.py --port=2222\n"
    )
    assert result.only["listen"] == "127.0.0.1:2222"
    assert "x.ini:3 says otherwise, and counts" in result.why("c.py:1: port = 1111")


@pytest.mark.parametrize(
    ("program", "user", "name"),
    [
        ("jupyter", "alice", "alice"),
        ("jupyter-bob", "bob", "bob"),
        ("jupyter-bob", "carol", "jupyter-bob"),
        ("jupyter-lab", "root", "jupyter-lab"),
        ("data science!", "bob", "data-science"),
        ("x" * 60, "bob", "x" * 30),
        ("..", "bob", "lab"),
    ],
)
def test_names(files, program, user, name):
    """An instance is called as its program, unless that says nothing; what jlabd cannot be told is changed."""
    result = files.one("x.ini", f"[program:{program}]\nuser={user}\ncommand=/v/bin/jupyter lab\n")
    assert list(result.table["instance"]) == [name]


def test_names_differ(files):
    """Two labs of one user get two names."""
    programs = "".join(f"[program:{name}]\nuser=bob\ncommand=/v/bin/jupyter lab\n" for name in ("jupyter", "lab"))
    assert list(files.one("x.ini", programs).table["instance"]) == ["bob", "bob-2"]


def test_name_that_is_chosen(files):
    """--name names the one lab, and is refused for several."""
    program = "[program:x]\nuser=bob\ncommand=/v/bin/jupyter lab\n"
    assert list(files.imported({"x.ini": program}, name="research").table["instance"]) == ["research"]
    with pytest.raises(ImportFailedError, match="--name research is for one lab, and there are 2"):
        files.imported({"x.ini": program + program.replace("x", "y")}, name="research")


def test_what_jlabd_would_refuse_becomes_a_comment(files):
    """A value that does not pass --check is left out with the reason, and secrets in it are not shown."""
    text = (
        "[program:x]\nuser=bob\numask=9\nstopsignal=WINCH\nstdout_logfile_maxbytes=1KB\n"
        "environment=JUPYTER_TOKEN=verysecret,GOOD=1\ncommand=/v/bin/jupyter lab --ServerApp.base_url='/a b/'\n"
    )
    result = files.one("x.ini", text)
    assert result.only == {"user": "bob", "venv": "/v", "env": {"GOOD": "1"}}
    assert "is not a umask" in result.why("umask = '0009'")
    assert "does not end a program" in result.why("stop.signal = 'WINCH'")
    assert "too small for a log" in result.why("log.max_size = '1K'")
    assert "is not a base URL" in result.why("base_url = '/a b/'")
    assert "token_file" in result.why("env.JUPYTER_TOKEN")
    assert "verysecret" not in result.text


def test_what_only_becomes_wrong_together(files):
    """Whatever makes a key necessary that is not there is left out itself, and what is left passes."""
    result = files.one("x.ini", "[program:x]\nuser=al ice\ncommand=/v/bin/jupyter lab\n")
    assert result.only["user"] == "CHANGE-ME"
    assert "cannot be an account" in result.why("user = 'al ice'")

    program = "[program:{0}]\nuser={0}\ncommand=/v/bin/jupyter lab --port={1}\n"
    server = "server {{ server_name x.example.org; location / {{ proxy_pass http://127.0.0.1:{0}; }} }}\n"
    two = {"y.ini": program.format("alice", 1001) + program.format("bob", 1002)}
    result = files.imported(two | {"y.conf": server.format(1001) + server.format(1002)})
    assert result.table["instance"]["alice"]["server_name"] == "x.example.org"
    assert "server_name" not in result.table["instance"]["bob"]
    assert "is taken by instance alice" in result.why("server_name = 'x.example.org'")

    tls = server.format(1001).replace("server {", "server { listen 443 ssl; include snippets/certificate.conf;")
    result = files.imported({"z.ini": program.format("alice", 1001), "z.conf": tls.replace("443", "8443")})
    assert "nginx" not in result.table
    assert "is missing" in result.why("listen = ['8443 ssl']")


def test_pip_user_and_system_python(files):
    """A JupyterLab of the system's Python, or of pip install --user, is no environment that jlabd could run."""
    for path in ("/usr/local/bin/jupyter-lab", "/home/bob/.local/bin/jupyter-lab", "/usr/bin/jupyter lab"):
        result = files.one("x.ini", f"[program:x]\nuser=bob\ncommand={path}\n")
        assert "venv" not in result.only
        assert "python3 -m venv" in result.why(path.rpartition("/")[0])


def test_environment_of_path(files):
    """A bare `jupyter` comes from the first environment in PATH."""
    text = '[program:x]\nuser=bob\nenvironment=PATH="/usr/local/bin:/srv/lab/bin:/usr/bin"\ncommand=jupyter lab\n'
    assert files.one("x.ini", text).only["venv"] == "/srv/lab"


# What nobody should have to expect.


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"[program:x]\nuser=al\0ice\n", ":2: holds a NUL"),
        (b"[program:x]\n# caf\xe9\n", ":2: is not UTF-8"),
        (b"", "is nothing that can be imported"),
        (b"hello\nworld\n", "is nothing that can be imported"),
        (b"x" * 5_000_000, "is larger than any file of this kind"),
        (b"\x7fELF\x02\x01\x01\0", ":1: holds a NUL"),
    ],
)
def test_files_that_are_none(files, data, error):
    """Binary, latin-1, empty and enormous files are errors that name the place."""
    with pytest.raises(ImportFailedError) as failed:
        files.one("x.ini", data)
    assert error in str(failed.value)
    assert str(failed.value).startswith(f"{files.folder}/x.ini")


def test_what_is_no_file(files):
    """A folder, a FIFO, and a file that is not there are errors at once."""
    os.mkfifo(files.folder / "fifo")
    for name, error in (("fifo", "is not a regular file"), ("", "Is a directory"), ("gone", "No such file")):
        with pytest.raises(ImportFailedError, match=error):
            files.imported({}, f"{files.folder}/{name}")


LINES = {
    "x.ini": "[program:x]\nuser=bob\ncommand=/v/bin/jupyter lab {}\n",
    "x.service": "[Service]\nUser=bob\nExecStart=/v/bin/jupyter lab {}\n",
    "run.sh": "#!/bin/sh\nexec /v/bin/jupyter lab {}\n",
    "jupyter_lab_config.py": "c.ServerApp.root_dir = '{}'\n",
    "lab.conf": "server {{ server_name {}; location / {{ proxy_pass http://127.0.0.1:8888; }} }}\n",
}


def attempt(files, name, text):
    """Return what the file comes to, or what is wrong with it."""
    try:
        return files.one(name, text).text
    except ImportFailedError as error:
        return str(error)


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("filling", ["x" * 900_000, "a " * 400_000, "$x" * 300_000, "(" * 300_000])
def test_lines_of_a_megabyte(files, name, filling):
    """Enormous lines end soon: in a configuration or in an error."""
    began = time.process_time()
    outcome = attempt(files, name, LINES[name].format(filling))
    assert time.process_time() - began < 20
    assert "instance" in outcome or str(files.folder) in outcome


@pytest.mark.parametrize("name", LINES)
def test_garbled_files(files, name):
    """Files with bytes cut out, doubled and changed end in a configuration that passes, or in an error."""
    chance = random.Random(name)
    plain = LINES[name].format("--port=8899 --no-browser").encode()
    outcomes = set()
    for _ in range(60):
        data = bytearray(plain)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 3)] = bytes(chance.choices(b"\n\"'\\${}[]=;#%(a", k=chance.randint(0, 4)))
        outcomes.add("[instance." in attempt(files, name, bytes(data)))
    assert outcomes == {True, False}


def test_too_many_files(files, monkeypatch):
    """Includes without end are given up."""
    monkeypatch.setattr(gather, "_MOST_FILES", 10)
    for number in range(20):
        files.write(f"c/{number}.ini", "[supervisord]\n")
    with pytest.raises(ImportFailedError, match="more than 10 files"):
        files.one("s.conf", "[include]\nfiles=c/*.ini\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--IdentityProvider.token=abc --x", "--IdentityProvider.token=… --x"),
        ("PASSWORD='abc'", "PASSWORD=…"),
        ("token = ''", "token = ''"),
        ("SetCredential=id:abc", "SetCredential=…"),
        ("a\tb\x1b[31m\n c", "a b\\x1b[31m c"),
        ("y" * 500, "y" * 100 + "…"),
    ],
)
def test_what_comments_show(text, shown):
    """Pieces of files are shown on one line, without secrets and control characters."""
    assert quoted(text) == shown


# What belongs to whom.


def test_programs_that_are_no_labs(files):
    """Beside a lab, a server made by a compiler, scripts of others and missing files are no labs, and no errors."""
    files.write("bin/server", b"\x7fELF\x02\x01\x01\0")
    files.write("bin/worker", "#!/usr/bin/python3\nprint(1)\n")
    files.write("bin/redis.sh", "#!/bin/sh\nexec redis-server\n")
    programs = "".join(
        f"[program:{name}]\nuser=bob\ncommand={{folder}}/bin/{name} --fast\n"
        for name in ("server", "worker", "redis.sh", "gone")
    )
    result = files.one("all.conf", programs + "[program:lab]\nuser=bob\ncommand=/v/bin/jupyter-lab\n")
    assert len(result.table["instance"]) == 1
    for name in ("server", "worker", "redis.sh", "gone"):
        assert "is another program" in result.why(f": {name}")


def test_scripts_of_the_administrator(files):
    """A script below /usr/local is one, too; where it cannot be read its name tells that it starts a lab."""
    text = "[program:a]\nuser=bob\ncommand=/usr/local/bin/start-jupyter\n[program:b]\nuser=bob\ncommand=/usr/bin/cat\n"
    result = files.one("x.ini", text)
    assert list(result.table["instance"]) == ["a"]
    assert "give it too" in result.why("/usr/local/bin/start-jupyter")


def test_folders_in_turn(files):
    """A script that changes to a relative folder does so from the program's, wherever that stands in the file."""
    files.write("run.sh", "#!/bin/sh\ncd ..\ncd notebooks\nexec /v/bin/jupyter lab --notebook-dir=course\n")
    text = "[program:x]\nuser=alice\ncommand={folder}/run.sh\ndirectory=/home/alice/bin\n"
    assert files.one("x.ini", text).only["root_dir"] == "/home/alice/notebooks/course"
    shell = "[program:x]\nuser=alice\ncommand=sh -c 'cd nb && exec /v/bin/jupyter lab'\ndirectory=/home/alice\n"
    assert files.one("y.ini", shell).only["root_dir"] == "/home/alice/nb"


def test_what_jupyter_reads_by_itself(files):
    """A configuration in the home of a lab's user is read without being named; one that is broken is a remark."""
    files.write("carol/.jupyter/jupyter_notebook_config.py", f"c.NotebookApp.password = '{HASH}'\n")
    files.write("carol/.jupyter/jupyter_lab_config.py", "c.ServerApp.port = = 1\n")
    files.write("carol/.jupyter/migrated", "2020\n")
    result = files.one("x.ini", "[program:x]\nuser=carol\ncommand=/v/bin/jupyter lab\n")
    assert result.only["password_hash"] == HASH
    assert "jupyter_lab_config.py:1: is not Python" in result.why("it could not be used")


def test_config_folder_in_the_environment(files):
    """JUPYTER_CONFIG_DIR says whose configuration a file is."""
    programs = "".join(
        f"[program:{name}]\nuser={name}\nenvironment=JUPYTER_CONFIG_DIR={{folder}}/conf-{name}\n"
        "command=/v/bin/jupyter lab\n"
        for name in ("alice", "bob")
    )
    config = {"conf-bob/jupyter_lab_config.py": "c.ServerApp.root_dir = '/srv/b'\n"}
    result = files.imported({"x.ini": programs, **config})
    assert "root_dir" not in result.table["instance"]["alice"]
    assert result.table["instance"]["bob"]["root_dir"] == "/srv/b"


def test_config_of_nobody_in_particular(files):
    """A configuration that two labs might read is given to none, and said to be."""
    programs = "".join(f"[program:{name}]\nuser={name}\ncommand=/v/bin/jupyter lab\n" for name in ("alice", "bob"))
    result = files.imported({"x.ini": programs, "some_config.py": f"c.ServerApp.password = '{HASH}'\n"})
    assert "cannot be told" in result.why(": some_config.py")
    assert all("password_hash" not in one for one in result.table["instance"].values())


def test_many_labs_soon(files):
    """Hundreds of labs that all have the same mistake are judged quickly."""
    programs = "".join(f"[program:x{n}]\nuser=bob\ncommand=/v/bin/jupyter lab --port=8899\n" for n in range(300))
    began = time.process_time()
    instances = files.one("x.ini", programs).table["instance"]
    assert time.process_time() - began < 10
    assert [name for name, one in instances.items() if "listen" in one] == ["x0"]


def test_lines_are_what_an_editor_calls_lines(files):
    """A separator that only Python takes for the end of a line hides no key."""
    text = "[program:x]\nuser=bob\ndirectory=/srv/a\u2028user=root\ncommand=/v/bin/jupyter lab\n"
    result = files.one("x.ini", text)
    assert result.only["user"] == "bob"
    assert "root_dir" not in result.only or result.only["root_dir"].startswith("/srv/a")
