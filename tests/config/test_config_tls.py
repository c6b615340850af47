"""TLS and the other things that an administrator may tell nginx: what fits together, and what is really there."""

import os
from pathlib import Path

import pytest
from rig.certificates import Authority

from jlabd.config.problems import ConfigError
from jlabd.config.read import check, load
from jlabd.core.urls import url

SHARED = 'tls_certificate = "/etc/x.pem"\ntls_certificate_key = "/etc/x.key"\n'
OWN = 'nginx = { tls_certificate = "/etc/a.pem", tls_certificate_key = "/etc/a.key" }\n'
FOR_A_FOLDER = "use a path of letters"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """An authority that gives out real certificates."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ("80",)),
        (SHARED, ("80", "443 ssl")),
        (SHARED + 'listen = ["[::]:443 ssl", 80]', ("[::]:443 ssl", "80")),
    ],
)
def test_where_nginx_listens(files, written, expected):
    """A certificate brings port 443, unless the file says something else."""
    assert files.load(f"[nginx]\n{written}").configuration.nginx.listen == expected


@pytest.mark.parametrize(
    ("nginx", "instance", "expected"),
    [
        ("", "", "http://h/alice/"),
        (SHARED, "", "https://h/alice/"),
        (SHARED + 'listen = ["8080", "127.0.0.1:8443 ssl", "443 ssl"]', "", "https://h:8443/alice/"),
        (SHARED, 'server_name = "a.org"', "https://a.org/"),
        ('listen = ["8080", "443 ssl"]', f'server_name = "a.org"\n{OWN}', "https://a.org/"),
        ('listen = ["8080", "443 ssl"]', 'server_name = "a.org"', "http://a.org:8080/"),
    ],
)
def test_the_address_to_open(files, nginx, instance, expected):
    """It is https where the host has a certificate, with the first port that speaks it."""
    configuration = files.load(f'[nginx]\nserver_name = "h"\n{nginx}\n[instance.alice]\n{instance}\n').configuration
    assert url(configuration.instances["alice"], configuration.nginx) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[nginx]\ntls_certificate = "/x"', "2: nginx.tls_certificate: is of no use without its key"),
        ('[nginx]\ntls_certificate_key = "/x"', "2: nginx.tls_certificate_key: is of no use without its certificate"),
        (f"[nginx]\nlisten = [80]\n{SHARED}", "2: nginx.listen: has no address for the certificate, add one with ssl"),
        (
            f"[instance.a]\n{OWN}",
            "2: instance.a.nginx.tls_certificate: is for an instance with a server_name of its own",
        ),
        (f'[instance.a]\nserver_name="a.org"\n{OWN}', "3: instance.a.nginx.tls_certificate: needs an address with ssl"),
        (
            '[nginx]\nlisten = [80, "443 ssl"]\n[instance.a]\nserver_name="a.org"\nnginx.tls_certificate = "/x"',
            "5: instance.a.nginx.tls_certificate: is of no use without its key",
        ),
        (
            '[nginx]\nlisten = ["443 ssl"]\n[instance.a]',
            "3: instance.a.nginx.tls_certificate: is missing: every address in nginx.listen says ssl",
        ),
        ('[nginx]\nlisten = ["80", "80 ssl"]', "2: nginx.listen[1]: '80 ssl' is there twice"),
        ('[nginx]\nhsts = "2 years"', "2: nginx.hsts: '2 years' is not a time"),
        ('[instance.a]\nnginx.extra = "a\\u0007"', "2: instance.a.nginx.extra: holds a control character"),
        ('[instance.a]\nnginx.template = "own.j2"', "2: instance.a.nginx.template: 'own.j2' is not an absolute path"),
    ],
)
def test_what_does_not_fit_together(files, text, problem):
    """Each mistake is told once, with the line and what would be right."""
    [said] = files.check(text)
    assert said.startswith(f"jlabd.toml:{problem}")


@pytest.mark.parametrize("key", ["tls_certificate", "tls_certificate_key", "acme_root", "access_log_dir"])
@pytest.mark.parametrize(
    "hostile", [";", "{", "}", "\n", "$", '"', "'", "\\", "\0", "#", "*", "?", "[", "/../", "//", "\u2028"]
)
def test_hostile_paths(files, key, hostile):
    """A path that could be anything else to nginx is refused, in [nginx] and for an instance."""
    value = "".join(f"\\u{ord(letter):04x}" for letter in f"/etc{hostile}x")
    assert any(f"2: nginx.{key}" in problem for problem in files.check(f'[nginx]\n{key} = "{value}"'))
    if key.startswith("tls"):
        said = files.check(f'[instance.a]\nserver_name = "a.org"\nnginx.{key} = "{value}"')
        assert any(f"3: instance.a.nginx.{key}" in problem for problem in said)


def found(files, text):
    """Return the problems of `text`, also with the files that it names."""
    path = files.write_main(text)
    return files.told(check(path, accounts=files.people, uid=os.geteuid(), with_files=True))


def tls(pair):
    """Return the lines for a certificate and its key."""
    return f'tls_certificate = "{pair[0]}"\ntls_certificate_key = "{pair[1]}"\n'


WHO = 'user = "ann"\n' if os.geteuid() == 0 else "umask = '0077'\n"


def test_certificates_that_fit(files, authority):
    """With the right files there is nothing to say, and what is not asked for is not looked at."""
    pair = authority.certificate("h")
    assert found(files, f"[nginx]\n{tls(pair)}") == []
    assert check(files.write_main(f"[nginx]\n{SHARED}")) == []
    assert load(files.main).configuration.nginx.tls_certificate == "/etc/x.pem"


def test_certificates_that_do_not_fit(files, authority, monkeypatch):
    """A missing, wrong or useless file is told at its key and line, for the shared host and for an instance."""
    monkeypatch.setattr("jlabd.config.look.PATIENCE_S", 0.1)
    one, other = authority.certificate("h"), authority.certificate("a.org")
    mixed = (one[0], other[1])
    said = f"is not the key of the certificate {one[0]}"
    [problem] = found(files, f"[nginx]\n{tls(mixed)}")
    assert problem == f"jlabd.toml:3: nginx.tls_certificate_key: {other[1]} {said}"
    listen = '[nginx]\nlisten = ["80", "443 ssl"]\n'
    inline = ", ".join(tls(mixed).splitlines())
    [problem] = found(files, f'{listen}[instance.a]\n{WHO}server_name = "a.org"\nnginx = {{ {inline} }}')
    assert problem == f"jlabd.toml:6: instance.a.nginx.tls_certificate_key: {other[1]} {said}"
    [problem] = found(files, f"[nginx]\n{SHARED}")
    assert problem == "jlabd.toml:2: nginx.tls_certificate: /etc/x.pem does not exist, write the path of a PEM file"
    with pytest.raises(ConfigError, match=r"/etc/x\.pem does not exist"):
        load(files.main, with_files=True)
    [problem] = found(files, listen)
    assert problem == "jlabd.toml:1: nginx.tls_certificate: is missing: nginx.listen says ssl; write the path of one"
    assert found(files, listen + "enabled = false") == []


def test_a_certificate_of_an_included_file_is_that_files_matter(files):
    """What an included file names does not make the main file unusable."""
    files.write("more/a.toml", f'[instance.a]\n{WHO}server_name = "a.org"\n{OWN}')
    text = f'[daemon]\ninclude = "{files.folder}/more/*.toml"\n[nginx]\nlisten = ["80", "443 ssl"]\n[instance.b]\n{WHO}'
    loaded = load(files.write_main(text), accounts=files.people, with_files=True, uid=os.geteuid())
    assert list(loaded.configuration.instances) == ["b"]
    assert [problem.key for problem in loaded.problems] == ["instance.a.nginx.tls_certificate"]


def test_folders_that_are_not_there(files):
    """A folder that nginx is to read or write is looked for, too."""
    (files.folder / "acme").mkdir()
    assert found(files, f'[nginx]\nacme_root = "{files.folder}/acme"\naccess_log_dir = "{files.folder}/acme"') == []
    said = found(files, f'[nginx]\nacme_root = "{files.folder}/no"\naccess_log_dir = "{files.main}"')
    assert [problem.partition(" ")[0] for problem in said] == ["jlabd.toml:2:", "jlabd.toml:3:"]
    assert all("is not a folder, make it or write another one" in problem for problem in said)


@pytest.mark.root
def test_logs_are_not_written_where_a_user_could_lay_links(files):
    """nginx's master opens logs as root and follows links: the folder must be root's, or that of nginx's workers."""
    place = files.folder / "logs"
    place.mkdir()
    text = f"[nginx]\ngroup = 'nobody'\naccess_log_dir = '{place}/a'\n"
    (place / "a").mkdir()
    assert found(files, text) == []
    os.chown(place / "a", 65534, 0)  # as where packages of nginx give it to its workers
    (place / "a").chmod(0o775)
    assert found(files, text) == []
    os.chown(place, 12345, 0)
    [said] = found(files, text)
    assert said.startswith("jlabd.toml:3: nginx.access_log_dir")
    assert "but logs belongs to another user (chown root logs)" in said
    os.chown(place, 0, 0)
    (place / "a").chmod(0o1777)
    [said] = found(files, text)
    assert "everybody can write to logs/a" in said


@pytest.mark.root
@pytest.mark.parametrize("key", ["extra", "template"])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.chmod(0o664), "can be written by others (chmod go-w"),
        (lambda path: path.parent.chmod(0o777), "can be written by others (chmod go-w"),
        (lambda path: os.chown(path.parent, 12345, -1), "belongs to another user (chown root"),
        (lambda path: os.chown(path, 12345, -1), "belongs to another user (chown root"),
    ],
)
def test_only_root_tells_nginx_what_it_likes(files, key, harm, reason):
    """Where the daemon is root, what goes to nginx as it is may stand only where root alone can have written it."""
    path = files.write("own/x.j2", "")
    text = f'[instance.a]\n{WHO}nginx.{key} = "{path if key == "template" else "allow all;"}"\n'
    main = files.write("own/main.toml", f'[daemon]\ninclude = ""\n{text}')
    assert check(main, accounts=files.people, uid=0, with_files=True) == []
    harm(main)
    [problem] = check(main, accounts=files.people, uid=0)
    assert (problem.line, problem.key) == (5, f"instance.a.nginx.{key}")
    assert problem.message.startswith("goes to nginx, which root runs, but /")
    assert reason in problem.message
    assert check(main, accounts=files.people, uid=12345)[0].key == "instance.a.user"  # and nothing else


@pytest.mark.root
def test_a_template_that_others_can_change(files):
    """The template itself counts, and where links lead."""
    path = files.write("own/x.j2", "")
    link = files.folder / "link.j2"
    link.symlink_to(path)
    text = f'[instance.a]\n{WHO}nginx.template = "{link}"\n'
    assert found(files, text) == []
    path.parent.chmod(0o777)
    [problem] = found(files, text)
    assert "goes to nginx, which root runs, but own can be written by others (chmod go-w own)" in problem
    link.unlink()
    assert "is not a file, write the path of a template" in found(files, text)[0]


@pytest.mark.root
def test_an_included_file_that_others_can_change(files):
    """What is inherited counts where it was written: the included file may not pass on what it cannot say itself."""
    mine = files.write("more/a.toml", f"[instance.a]\n{WHO}")
    theirs = files.write("more/b.toml", f'[instance.b]\n{WHO}nginx.extra = "allow all;"')
    for path in (mine, theirs):
        path.chmod(0o664)
    text = f'[daemon]\ninclude = "{files.folder}/more/*.toml"\n[defaults]\nnginx.extra = "deny all;"'
    loaded = load(files.write_main(text), accounts=files.people, uid=0)
    assert list(loaded.configuration.instances) == ["a"]
    assert loaded.configuration.instances["a"].route.extra == "deny all;"
    assert [Path(problem.file) for problem in loaded.problems] == [theirs]
