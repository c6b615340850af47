"""JupyterLab behind TLS: a real browser, and what jlabctl says of certificates. One daemon for all."""

import pytest
from rig.certificates import Authority
from rig.chromium import chromium
from rig.daemon import daemons
from rig.nginx import Nginx, free_port
from rig.waiting import until

pytestmark = pytest.mark.jupyter


class Place:
    """A daemon with a lab, an nginx with TLS, and who gives out certificates."""

    def __init__(self, make, nginx, venv):
        self.nginx = nginx
        self.port = free_port()
        self.authority = Authority(nginx.folder / "ca")
        pair = self.authority.certificate("localhost")
        self.links = self.authority.live("lab", pair)
        self.wrong = self.authority.certificate("localhost")
        tls = f'tls_certificate = "{self.links[0]}"\ntls_certificate_key = "{self.links[1]}"\nhsts = "180d"\n'
        listen = [f"127.0.0.1:{nginx.port}", f"127.0.0.1:{self.port} ssl"]
        settings = nginx.settings("localhost", listen=listen, more=tls)
        self.daemon = make(f"[instance.alice]\nvenv = '{venv}'\nroot_dir = '{{folder}}/home'\n", nginx=settings)

    def line(self, word):
        """Return the number of the line that begins with `word`."""
        lines = self.daemon.path.read_text().splitlines()
        return next(n for n, line in enumerate(lines, 1) if line.startswith(f"{word} "))


@pytest.fixture(scope="module")
def place(nginx_binary, lab4_venv):
    """Where all of this happens."""
    nginx = Nginx(nginx_binary).prepare()
    with daemons() as make:
        made = Place(make, nginx, lab4_venv)
        made.daemon.start()
        nginx.start()
        made.daemon.wait_for("alice", "ready")
        yield made
    nginx.stop()


def test_jupyterlab_in_a_browser(place):
    """The link of `jlabctl url` is https and logs in, over HTTP/2; websockets open, and cookies are for https only."""
    link = place.daemon.ctl("url", "alice", "--token", check=True).stdout.strip()
    assert link.startswith(f"https://localhost:{place.port}/alice/?token=")
    assert place.daemon.instance("alice")["url"] == f"https://localhost:{place.port}/alice/"
    with chromium() as browser, browser.visitor(ignore_https_errors=True) as visitor:
        visitor.open(link.replace(f"https://localhost:{place.port}", f"http://localhost:{place.nginx.port}"))
        visitor.open_notebook()
        assert visitor.page.url.startswith(f"https://localhost:{place.port}/alice/lab")
        assert visitor.run("40 + 2") == "42"
        assert set(visitor.handshakes) == {101}
        assert not visitor.complaints
        protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert visitor.page.evaluate(protocol) == "h2"
        # jupyter_server makes its login cookie so if it is told of https, which nginx alone knows.
        cookies = visitor.context.cookies()
        assert [cookie["secure"] for cookie in cookies if cookie["name"].startswith("username-")] == [True]


def test_a_certificate_that_is_renewed_badly(place):
    """A key that does not fit is refused by check and reload, with file, line and key; all goes on as it was."""
    place.authority.live("lab", (place.wrong[0], place.authority.certificate("localhost")[1]))
    problem = (
        f"{place.daemon.path}:{place.line('tls_certificate_key')}: nginx.tls_certificate_key: {place.links[1]} is not"
    )
    checked = place.daemon.ctl("check", place.daemon.path)
    assert (checked.returncode, checked.stderr.startswith(problem)) == (1, True), checked
    reloaded = place.daemon.ctl("reload")
    assert reloaded.returncode == 1
    assert problem in reloaded.stderr
    assert place.daemon.document()["nginx"]["ok"]
    place.links = place.authority.live("lab", place.wrong)
    assert place.daemon.ctl("check", place.daemon.path).returncode == 0
    assert place.daemon.ctl("reload").returncode == 0


def test_a_template_that_is_wrong(place):
    """What cannot be filled in is refused with file and line, tried out or in earnest; the lab is not touched."""
    before = place.daemon.path.read_text(), place.daemon.instance("alice")["pid"]
    template = place.nginx.folder / "own.j2"
    template.write_text('{% include "location.conf.j2" %}\n{{ nmae }}\n')
    place.daemon.path.write_text(f'{before[0]}nginx.template = "{template}"\n')
    for words in (["--dry-run"], []):
        refused = place.daemon.ctl("reload", *words)
        assert (refused.returncode, f"{template}:2: 'nmae' is undefined." in refused.stderr) == (1, True), refused
    template.write_text(template.read_text().replace("nmae", "'# ' ~ name"))
    assert "+# alice" in place.daemon.ctl("reload", "--dry-run", check=True).stdout
    place.daemon.ctl("reload", check=True)
    place.daemon.path.write_text(before[0])
    place.daemon.ctl("reload", check=True)
    assert place.daemon.instance("alice")["pid"] == before[1]


def test_a_certificate_that_is_gone_when_the_daemon_starts(place):
    """Labs do not depend on it: the daemon takes over the lab and says what is missing, and nginx serves on."""
    before = place.daemon.instance("alice")["pid"]
    place.daemon.kill()
    place.authority.live("lab", ("/nonexistent.pem", place.wrong[1]))
    place.daemon.start()
    assert place.daemon.wait_for("alice", "ready")["pid"] == before
    reason = f"TLS: {place.links[0]} does not exist, write the path of a PEM file."
    until(lambda: place.daemon.document()["nginx"]["error"] == reason, 20, "the daemon to say so")
    place.authority.live("lab", place.wrong)
    place.daemon.ctl("reload", check=True)
    assert (place.daemon.document()["nginx"]["ok"], place.daemon.document()["nginx"]["error"]) == (True, None)
