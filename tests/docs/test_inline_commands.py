"""The commands of other programs within the text of the documentation: run here, run elsewhere, or why they are not."""

import getpass
import re
import shutil
import subprocess

import pytest

from tests.docs.pages import PAGES, TOP, spans

PROGRAMS = {"ausearch", "certbot", "chmod", "chown", "df", "dnf", "firewall-cmd", "grubby", "httpd", "journalctl"}
PROGRAMS |= {"loginctl", "make", "mv", "nginx", "openssl", "pip", "ps", "restorecon", "rpm", "semanage", "semodule"}
PROGRAMS |= {"service", "setsebool", "ss", "ssh", "sudo", "supervisorctl", "systemctl", "taplo", "useradd", "usermod"}

HERE = {"df -h", "ps -u", "ss -ltnp", "chown -R root:", "chmod -R go-w"}
"""What begins like this is run here: it only looks, or changes a folder of the test's own."""

SERVICE, WAY, DENIALS = "tests/packaging/test_service.py", "tests/packaging/test_way.py", "jlabd/doctor/denials.py"
ELSEWHERE = {
    "systemctl reload jlabd": (SERVICE, 'systemctl("reload", "jlabd")'),
    "systemctl restart jlabd": (SERVICE, 'systemctl("restart", "jlabd")'),
    "systemctl stop jlabd": (SERVICE, 'systemctl("stop", "jlabd")'),
    "systemctl start jlabd": (SERVICE, '"start", "jlabd"'),
    "systemctl restart": (SERVICE, 'systemctl("restart", "jlabd")'),
    "journalctl -u jlabd": ("tests/packaging/booted.py", '"journalctl", "--no-pager", "--unit", "jlabd"'),
    "systemctl enable --now nginx": (WAY, 'systemctl("enable", "nginx")'),
    "dnf upgrade jlabd": (WAY, 'dnf("upgrade", "jlabd")'),
    "dnf remove jlabd": (WAY, 'dnf("remove", "jlabd")'),
    "dnf install jlabd-selinux": (WAY, 'dnf("install", "jlabd")'),
    "supervisorctl restart jlabd": ("tests/system/test_supervisor.py", 'ctl("restart", "jlabd")'),
    "supervisorctl update": ("tests/system/test_moving.py", 'GUIDE.commands["move"]'),
    "make rpm": ("tests/packaging/repository.py", "packaging/rpm.py"),
    "make demo": ("tests/demo/test_demo.py", '"-m", "jlabd.demo"'),
    "make release VERSION=1.2.3 ARGS=--rebuild": ("tests/packaging/test_release.py", 'VERSION, "--rebuild"'),
    "pip install": ("tests/packaging/test_pip.py", '"install", "--quiet"'),
    "taplo check": ("tests/docs/test_configuration.py", "TAPLO"),
    "nginx -t": ("tests/docs/test_other_blocks.py", '"-t"'),
    "nginx -s reload": ("tests/shells/nginx/test_watch.py", '"-s", "reload"'),
    "usermod -aG jlabd NAME": ("jlabd/doctor/surroundings.py", "usermod -aG {name} NAME"),
    "restorecon -Rv PATH": (DENIALS, "restorecon -Rv"),
    "semanage permissive -a jlabd_t": (DENIALS, "semanage permissive -a jlabd_t"),
    "semanage port -a -t http_port_t -p tcp PORT": (DENIALS, "semanage port -a -t http_port_t -p tcp"),
    "setsebool -P httpd_can_network_connect on": (DENIALS, "setsebool -P httpd_can_network_connect on"),
    "semanage fcontext -a -t bin_t '/srv/venv/bin(/.*)?'": (DENIALS, "semanage fcontext -a -t bin_t"),
    "semanage login -l": ("jlabd/processes/accounts.py", "semanage login -l"),
    "ausearch -m avc -ts today": ("jlabd/doctor/selinux.py", "ausearch -m avc -ts today"),
    "systemctl status certbot-renew.timer": ("jlabd/doctor/tls.py", "systemctl status certbot-renew.timer"),
    "certbot renew --dry-run": ("jlabd/doctor/tls.py", "certbot renew --dry-run"),
    "certbot certonly --webroot -w /var/www/acme -d lab.example.com": (
        "etc/jlabd.toml",
        "certbot certonly --webroot -w /var/www/acme -d lab.example.com",
    ),
}
"""Command → a test that runs it, or for what asks for a machine that tests do not have, who else says the same."""

NOT_RUN = {
    "make bench": "takes half an hour",
    "systemctl edit jlabd": "opens an editor",
    "systemctl status jlabd": "only shows",
    "systemctl disable --now httpd": "another program's service",
    "systemctl --user": "a part of a command",
    "pip install --user": "a part of a command",
    "pip install --upgrade": "a part of a command",
    "sudo -u alice ls /srv/data": "asks for alice",
    "ssh -L 9180:127.0.0.1:9180 HOST": "asks for two machines",
    "setsebool -P selinuxuser_tcp_server on": "asks for SELinux",
    "restorecon -R /srv/venv": "asks for SELinux",
    "semanage fcontext -a -t jlabd_exec_t /opt/jlabd/bin/jlabd": "asks for SELinux",
    "restorecon /opt/jlabd/bin/jlabd": "asks for SELinux",
}
FOUND = sorted({span for page in PAGES for span in spans(page) if " " in span and span.split()[0] in PROGRAMS})
OURS = [span for span in FOUND if "jlabctl" not in span and " = " not in span]


def is_here(command):
    """Return whether a command is run in this file."""
    return any(command.startswith(begin) for begin in HERE)


def test_each_is_known():
    """Each command is in one of the tables, and the tables hold no others."""
    assert len(OURS) > 25
    assert [command for command in OURS if not is_here(command) and command not in ELSEWHERE.keys() | NOT_RUN] == []
    assert (ELSEWHERE.keys() | NOT_RUN) - set(OURS) == set()


@pytest.mark.parametrize("command", ELSEWHERE)
def test_elsewhere(command):
    """Who is named does it still."""
    path, words = ELSEWHERE[command]
    assert words in (TOP / path).read_text()


@pytest.mark.parametrize("command", [command for command in OURS if is_here(command)])
def test_here(tmp_path, command):
    """It is a command that works on Linux, with a folder of ours and a user that there is."""
    (tmp_path / "lab").mkdir(mode=0o777)
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"NO {command.split()[0]} on this machine")
    words = re.sub(r"-u (NAME|alice)", f"-u {getpass.getuser()}", command).split()
    places = [word if not word.startswith("/") else str(tmp_path) for word in words]
    owner = [word if word != "root:" else f"{getpass.getuser()}:" for word in places]
    done = subprocess.run(owner, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if command.startswith("chmod"):
        assert (tmp_path / "lab").stat().st_mode & 0o022 == 0
