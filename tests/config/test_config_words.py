"""Names, paths, hosts, base URLs and secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_server.auth.security import passwd, passwd_check

from jlabd.config import words

HASH = "argon2:$argon2id$v=19$m=10240,t=10,p=8$c29tZXNhbHQ$aGFzaGhhc2hoYXNo"
HOSTILE = ["a;b", "a{b", "a}b", "a\nb", "a$b", 'a"b', "a'b", "a b", "a\\b", "a#b", "a\0b", "a/b", "ä", "a\r", "a\n"]


@pytest.mark.parametrize("name", ["alice", "a", "A-1", "alice@example.org", "a.b_c-d", "0x", "a" * 32])
def test_names(name):
    """Names are ASCII letters, digits and a few signs."""
    assert words.instance_name(name) == name


@pytest.mark.parametrize(
    "name",
    [*HOSTILE, "", ".", "..", "a..b", "../a", ".a", "-a", "@a", "a" * 33, "a" * 10_000, "Ålice", "ａlice", "a*", "%s"],
)
def test_what_is_not_a_name(name):
    """Slashes, dots in a row, spaces, Unicode and long names are refused, and it is said what is allowed."""
    with pytest.raises(
        ValueError, match=r"cannot be a name, write up to 32 ASCII letters, digits and _ \. @ -"
    ) as told:
        words.instance_name(name)
    assert len(str(told.value)) < 400
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "host",
    ["lab.example.com", "a", "*.example.com", "xn--bcher-kva.example", "127.0.0.1", "[::1]", "[2001:db8::1]", "a-b.c"],
)
def test_hosts(host):
    """Hosts are names, one leading wildcard, and addresses."""
    assert words.host_name(host) == host
    assert words.host_name(host.upper()) == host


@pytest.mark.parametrize(
    "host",
    [
        *HOSTILE,
        *("", "_", "a_b", "*", "*.", "a.*.b", "*.*.a", "-a", "a-", "a..b", ".a", "a.", "a" * 64, "a." * 127 + "a"),
        *("300.1.1.1", "1.2.3", "::1", "[::1", "[fe80::1%eth0]", "a:80", "http://a", "~^a$", 5, True, ["a"], None),
    ],
)
def test_what_is_not_a_host(host):
    """Everything that nginx could read as more than a name is refused."""
    with pytest.raises(ValueError, match="is not a host name, write") as told:
        words.host_name(host)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("host", "hint"),
    [("bücher.example", "xn--"), ("http://a.b", "without http://"), ("a.b:80", "without the port"), ("::1", "[::1]")],
)
def test_hints_about_hosts(host, hint):
    """Common mistakes get a hint of their own."""
    with pytest.raises(ValueError) as told:
        words.host_name(host)
    assert hint in str(told.value)


@pytest.mark.parametrize("url", ["/", "/a/", "/alice@x/", "/a/b_c/d-e.f~/"])
def test_base_urls(url):
    """Base URLs begin and end with a slash."""
    assert words.base_url(url) == url


@pytest.mark.parametrize(
    "url", ["", "a", "/a", "a/", "//", "/a//", "/../", "/a/./", "/a b/", "/%41/", "/ä/", "/a;/", "/a/\n", "/{user}/", 5]
)
def test_what_is_not_a_base_url(url):
    """Base URLs with anything special in them are refused."""
    with pytest.raises(ValueError, match="is not a base URL, write a path"):
        words.base_url(url)


@pytest.mark.parametrize(
    ("path", "expected"), [("/", "/"), ("/srv/lab", "/srv/lab"), ("/srv/lab/", "/srv/lab"), ("/s p/ü;$", "/s p/ü;$")]
)
def test_paths(path, expected):
    """Paths are absolute, whatever letters they have."""
    assert words.path(path) == expected


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("work", "write it from / on"),
        ("./work", "write it from / on"),
        ("", "write it from / on"),
        ("~/work", "~ is not filled in"),
        ("~alice/work", "~ is not filled in"),
        ("{home}/work", "in templates only"),
        ("/home/{user}", "in templates only"),
        ("/a\0b", "control character"),
        ("/a\nb", "control character"),
        (5, "is not a path"),
        (True, "is not a path"),
    ],
)
def test_what_is_not_a_path(path, fix):
    """Relative paths, ~ and control characters are refused with the fix."""
    with pytest.raises(ValueError) as told:
        words.path(path)
    assert fix in str(told.value)


@pytest.mark.parametrize(
    "path", ["/a;b", "/a{b", "/a$b", '/a"b', "/a'b", "/a\\b", "/a:b", "/a*", "/a/../b", "/a//b", "/"]
)
def test_paths_that_nginx_would_misread(path):
    """What goes into nginx's configuration has no sign that means something there."""
    with pytest.raises(ValueError, match="cannot be written into nginx's configuration"):
        words.nginx_path(path)
    assert words.nginx_path("/srv/my lab/run-1_x.y/") == "/srv/my lab/run-1_x.y"


@pytest.mark.parametrize("algorithm", ["argon2", "sha1", "sha256", "sha512"])
def test_hashes_that_jupyter_makes(algorithm):
    """What JupyterLab's own function makes is accepted."""
    hashed = passwd("secret", algorithm)
    assert passwd_check(hashed, "secret")
    assert words.password_hash(hashed) == hashed


@pytest.mark.parametrize(
    "value",
    [
        *("hunter2", "hunter2:a:b", "sha1:salt:hunter2", "sha1:salt:abc", "sha256:s:" + "A" * 64, "argon2:hunter2"),
        *(HASH.removeprefix("argon2:"), HASH + "\n", HASH[:30], "argon2:$argon2id$v=19$…hunter2", ["hunter2"], 5),
    ],
)
def test_passwords_that_are_no_hashes(value):
    """A plain password, or half a hash, is refused with the command that makes one, and not repeated."""
    with pytest.raises(ValueError, match="run jlabctl passwd") as told:
        words.password_hash(value)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("value", ["hunter2", "~/hunter2", "/x\nhunter2", ["hunter2"]])
def test_secrets_instead_of_files(value):
    """A secret written where its file belongs is not repeated."""
    with pytest.raises(ValueError, match="is not the path of a file") as told:
        words.secret_file(value)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    "name", ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "JLABD_MARK", "JUPYTER_TOKEN", "JUPYTER_RUNTIME_DIR"]
)
def test_variables_of_the_daemon(name):
    """Variables that the daemon needs for itself are refused with the reason."""
    with pytest.raises(ValueError, match=r"must not be set: \w+"):
        words.variable(name)


@pytest.mark.parametrize("name", ["", "A=B", "A\0B", "A\nB"])
def test_what_is_not_a_variable(name):
    """Names that no environment can hold are refused."""
    with pytest.raises(ValueError, match="cannot be the name"):
        words.variable(name)


@pytest.mark.parametrize("name", ["alice", "alice@example.org", "EXAMPLE\\alice", "user$", "übung"])
def test_accounts(name):
    """Accounts may have every name that a name service gives them."""
    assert words.account(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "a\nb", "a\0", "a" * 256, 1000, True, None])
def test_what_is_not_an_account(name):
    """Names that no account can have are refused."""
    with pytest.raises(ValueError, match="cannot be an account"):
        words.account(name)


@given(st.text(), st.sampled_from([words.instance_name, words.host_name, words.base_url, words.nginx_path]))
def test_nothing_that_ends_a_word_gets_through(value, parse):
    """Whatever the text, what goes to nginx has no white space but blanks, no quote, semicolon, brace or dollar."""
    try:
        accepted = parse(value)
    except ValueError:
        return
    assert not set(accepted) & set("\n\r\t\0\"'\\;{}$#`")
