"""What is wrong between instances: ports, and places on a host."""

import pytest


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("8888", "8888", True),
        ("8888", "'localhost:8888'", True),
        ("8888", "'0.0.0.0:8888'", True),
        ("'[::]:8888'", "'127.0.0.1:8888'", True),
        ("'10.0.0.1:8888'", "'10.0.0.2:8888'", False),
        ("8888", "8889", False),
        ("8888", "'[::1]:8888'", False),
        ("'unix'", "'unix'", False),
    ],
)
def test_two_on_one_port(files, one, other, clash):
    """Two instances cannot have one port of one host, or of all hosts; the later one is told."""
    told = files.check(f"[instance.a]\nlisten = {one}\n[instance.b]\nlisten = {other}\n")
    assert bool(told) is clash
    if clash:
        assert told == [
            'jlabd.toml:4: instance.b.listen: port 8888 is taken by instance a; write another one, or "unix"'
        ]


def test_port_from_the_defaults(files):
    """A port that all inherit is told where it stands."""
    [told] = files.check("[defaults]\nlisten = 8888\n[instance.a]\n[instance.b]\n")
    assert told.startswith("jlabd.toml:2: defaults.listen: port 8888 is taken by instance a")


def test_ports_of_the_daemon(files):
    """The ports of nginx and of the status endpoint are taken; nginx's only while it is enabled."""
    text = "[nginx]\nenabled = {}\nlisten = ['127.0.0.1:8080', '81']\n[instance.a]\nlisten = {}\n"
    assert "taken by the status endpoint" in files.check(text.format("true", "9180"))[0]
    assert "taken by nginx" in files.check(text.format("true", "8080"))[0]
    assert "taken by nginx" in files.check(text.format("true", "'10.0.0.1:81'"))[0]
    assert files.check(text.format("false", "8080")) == []
    assert files.check(text.format("true", "'[::1]:8080'")) == []
    status = "[daemon]\ninclude = ''\nstatus_listen = '{}'\n[nginx]\nlisten = ['9180']\n[instance.a]\nlisten = 9180\n"
    assert [line.split(":")[1] for line in files.check(status.format("127.0.0.1:9180"))] == ["3", "7"]
    assert [line.split(":")[1] for line in files.check(status.format(""))] == ["7"]


def test_nginx_twice_on_one_port(files):
    """One address twice is a problem of nginx's list; a port and an address with it are not."""
    [told] = files.check("[nginx]\nlisten = ['80',\n'127.0.0.1:80',\n'0.0.0.0:80']\n")
    assert told == "jlabd.toml:4: nginx.listen[2]: '0.0.0.0:80' is there twice, keep one of them"


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        (["/x/", "/x/"], "4: instance.i1.base_url: '/x/' is taken by instance i0 on the same host; write another one"),
        (["/x/", "/x/y/"], "4: instance.i1.base_url: '/x/y/' lies inside '/x/' of instance i0 on the same host"),
        (["/x/y/z/", "/x/"], "4: instance.i1.base_url: '/x/y/z/' of instance i0 on the same host lies inside '/x/'"),
        (["/", "/x/"], "4: instance.i1.base_url: '/x/' lies inside '/' of instance i0"),
        (["/x/", "/"], "4: instance.i1.base_url: '/x/' of instance i0 on the same host lies inside '/'"),
        (["/i1/"], "3: instance.i1.base_url: '/i1/' is taken by instance i0 on the same host"),
        (["/x/", "/xy/", "/y/x/", "/y/xx/"], None),
    ],
)
def test_places_on_the_shared_host(files, urls, expected):
    """No two instances have the same path, or one inside the other; beginning with the same letters is no matter."""
    text = "".join(f"[instance.i{n}]\nbase_url = '{url}'\n" for n, url in enumerate(urls))
    text += "[instance.i1]\n" * (len(urls) == 1)
    told = files.check(text)
    assert len(told) == (expected is not None)
    if expected:
        assert told[0].startswith(f"jlabd.toml:{expected}"), told
    assert files.check(f"[nginx]\nenabled = false\n{text}") == []


def test_places_on_hosts_of_their_own(files):
    """Two instances on one host of their own need different paths; on different hosts they do not."""
    text = "[instance.a]\nserver_name = 'x.org'\n[instance.b]\nserver_name = '{}'\n"
    assert files.check(text.format("y.org")) == []
    [told] = files.check(text.format("X.org"))
    assert told.startswith("jlabd.toml:3: instance.b.base_url: '/' is taken by instance a on the same host")
    assert (
        files.check(text.format("x.org").replace("[instance.b]", "base_url='/a/'\n[instance.b]\nbase_url='/b/'")) == []
    )


def test_a_name_of_the_shared_host(files):
    """An instance cannot have the shared host for its own."""
    [told] = files.check("[nginx]\nserver_name = ['x.org', 'y.org']\n[instance.a]\nserver_name = 'Y.org'\n")
    assert told.startswith("jlabd.toml:4: instance.a.server_name: 'y.org' is a name of the shared host")


def test_the_control_socket_is_not_for_status(files):
    """The status endpoint cannot sit on the control socket."""
    [told] = files.check("[daemon]\ninclude = ''\nruntime_dir = '/run/j'\nstatus_listen = 'unix:/run/j/control.sock'\n")
    assert told.startswith("jlabd.toml:4: daemon.status_listen: is the control socket's own path")
