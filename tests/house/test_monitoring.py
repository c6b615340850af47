"""What docs/ gives to those who monitor: it speaks of metrics that there are, and Prometheus understands it."""

import json
import re
import shutil
import subprocess

import pytest

from jlabd.status.metrics import Counts, Metrics
from tests.house.tree import TOP

FOLDER = TOP / "docs/monitoring"
MOMENT = "2026-01-02T03:04:05.000Z"
DOCUMENT = {
    "version": "1.2.3",
    "config": {"path": "/etc/jlabd.toml", "loaded_at": MOMENT, "error": None},
    "nginx": {"ok": True, "generation": 7, "error": None},
    "instances": [
        {
            "name": "a",
            "state": "ready",
            "desired": "running",
            "since": MOMENT,
            "restarts": 3,
            "kernels": 2,
            "connections": 1,
            "last_activity": MOMENT,
            "memory_bytes": 1024,
        }
    ],
}
NAME = re.compile(r"\b(?:jlabd|process)_[a-z_]+")


@pytest.fixture(scope="module")
def exposition():
    """What Prometheus reads."""
    return Metrics(lambda: DOCUMENT, lambda: Counts(cpu_seconds={"a": 1.5})).exposition("text/plain")[0]


@pytest.fixture(scope="module")
def names(exposition):
    """The names of all samples, and of all families."""
    lines = exposition.decode().splitlines()
    return {line.split(" ")[2] if line[0] == "#" else re.split(r"[{ ]", line)[0] for line in lines}


def promtool(*argv, data=None):
    """Run promtool; return what it says if it finds anything, else nothing."""
    if shutil.which("promtool") is None:
        pytest.skip("NO promtool: apt install prometheus")
    done = subprocess.run(["promtool", *argv], input=data, capture_output=True, check=False, cwd=FOLDER)
    said = (done.stdout + done.stderr).decode()
    return said if done.returncode or (data and said) else ""


def expressions():
    """Return what the dashboard asks Prometheus."""
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_promtool_likes_the_metrics(exposition):
    """Names, units and help texts are as Prometheus' own checker wants them."""
    assert promtool("check", "metrics", data=exposition) == ""


def test_the_alerts_alert():
    """The rules are valid, and each alert is raised when it should be and not before."""
    assert promtool("check", "rules", "alerts.yml") == ""
    assert promtool("test", "rules", "alerts.test.yml") == ""
    alerts = re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text())
    tested = (FOLDER / "alerts.test.yml").read_text()
    assert [name for name in alerts if name not in tested] == []


def test_the_dashboard_asks_what_can_be_asked(tmp_path):
    """Every question of the dashboard is an expression that Prometheus understands."""
    rules = [
        {"record": f"q:{number}", "expr": re.sub(r"\$\w+", ".+", text)} for number, text in enumerate(expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert len(rules) > 10
    assert promtool("check", "rules", path) == ""


def test_no_name_is_unknown(names):
    """Alerts, dashboard and text name only metrics that there are; the text names all of them."""
    text = (TOP / "docs/monitoring.md").read_text()
    for where in ((FOLDER / "alerts.yml").read_text(), " ".join(expressions()), text):
        assert {name for name in NAME.findall(where) if not name.endswith("_")} - names == set()
    ours = {name for name in names if name.startswith("jlabd_")}
    described = {name for name in ours if re.sub(r"_(bucket|sum|count|created)$", "", name) in text}
    assert ours - described - {name.removesuffix("_total") for name in described} == set()
