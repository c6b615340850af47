"""Every fenced block of the documentation is of a kind that some test looks at; here those of Prometheus and nginx."""

import re
import shutil
import subprocess

import pytest

from tests.docs.pages import PAGES, TOP, blocks, name

KINDS = {
    "sh": "test_commands.py",
    "toml": "test_configuration.py",
    "text": "test_troubleshooting.py, or an output that is shown",
    "yaml": "here",
    "nginx": "here",
    "ini": "",
    "python": "",
}
"""Kind → where it is looked at; "" is only in the blocks of guides, which say `title=` or `run=` (rig/guide.py)."""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_kinds(page):
    """No block is of another kind, and a file or program is one that a guide's test takes."""
    found = re.findall(r"^```(\w+)(?: (\S+))?$", page.read_text(), re.MULTILINE)
    assert {kind for kind, _ in found} <= KINDS.keys()
    assert [more for kind, more in found if not KINDS[kind] and not more.startswith(("title=", "run="))] == []
    assert page.read_text().count("```") == 2 * len(found), "a block without a kind"


def test_prometheus_takes_it(tmp_path):
    """What is to be written into Prometheus' configuration is understood, together with the alerts."""
    if shutil.which("promtool") is None:
        pytest.skip("NO promtool: apt install prometheus")
    [(_, text)] = blocks(TOP / "docs/monitoring.md", "yaml")
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yml").write_bytes((TOP / "docs/monitoring/alerts.yml").read_bytes())
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_nginx_takes_it(tmp_path, nginx_binary):
    """The directives for a proxy of one's own are understood by nginx, in a location."""
    snippets = [text for page in PAGES for more, text in blocks(page, "nginx") if not more]
    assert snippets
    for text in snippets:
        location = f"location / {{ proxy_pass http://127.0.0.1:1;\n{text}}}"
        server = f"server {{ listen unix:{tmp_path}/socket;\n{location} }}"
        path = tmp_path / "nginx.conf"
        path.write_text(f"pid {tmp_path}/pid; events {{ }}\nhttp {{ access_log off; {_places(tmp_path)}\n{server} }}\n")
        command = [nginx_binary, "-t", "-p", tmp_path, "-e", tmp_path / "error.log", "-c", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def _places(folder):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
