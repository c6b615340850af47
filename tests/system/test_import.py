"""What ran under Supervisor behind a hand-made nginx, imported, runs under jlabd: same address, same password."""

import os
import pwd

import pytest
from rig.browser import Browser

from jlabd.jupyter.passwords import hash_password

pytestmark = pytest.mark.jupyter

PASSWORD = "correct horse battery staple"

INI = """
[program:jupyterlab]
command = {folder}/home/bin/start-lab.sh
directory = {folder}/home
user = {user}
autorestart = true
startsecs = 5
stopsignal = INT
stopasgroup = true
environment = COURSE="statistics"
stdout_logfile = {folder}/home/lab.log
"""
SCRIPT = """#!/bin/bash
set -e
cd {folder}/home/notebooks
source {venv}/bin/activate
export SEMINAR="group one"
exec jupyter lab --no-browser --config={folder}/home/conf/jupyter_lab_config.py >> ../lab.log 2>&1
"""
CONFIG = """
import os
c = get_config()  # noqa
c.ServerApp.ip = '127.0.0.1'
c.ServerApp.port = 18888
c.ServerApp.base_url = '/stats/'
c.ServerApp.password = {hash!r}
c.ServerApp.token = ''
c.ServerApp.open_browser = False
c.ServerApp.root_dir = os.path.join({folder!r}, 'home', 'notebooks')
c.FileContentsManager.allow_hidden = True
"""
SERVER = """
server {{
    listen 127.0.0.1:{port};
    server_name {host};
    client_max_body_size 50m;
    location /stats/ {{
        proxy_pass http://127.0.0.1:18888;
        proxy_set_header Host $http_host;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_read_timeout 12h;
    }}
}}
"""


def test_supervisor_script_config_and_nginx(jlabd, nginx, lab4_venv):
    """The four files become one lab, which lets its user in with the old password at the old address."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    daemon = jlabd("", nginx=nginx.settings("127.0.0.1", "localhost"))
    home = daemon.folder / "home"
    values = {"folder": str(daemon.folder), "user": user, "venv": lab4_venv, "hash": hash_password(PASSWORD)}
    values |= {"port": nginx.port, "host": "127.0.0.1"}
    for name, text in (
        ("lab.ini", INI),
        ("bin/start-lab.sh", SCRIPT),
        ("conf/jupyter_lab_config.py", CONFIG),
        ("lab.conf", SERVER),
    ):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text.format(**values))
    (home / "notebooks").mkdir()

    printed = daemon.ctl("import", str(home / "lab.ini"), str(home / "lab.conf"), check=True).stdout
    # The rig has its own [nginx]; and in these tests the lab is the daemon's own account's, root included.
    instance = "\n[instance." + printed.partition("\n[instance.")[2].replace('user = "CHANGE-ME"', f'user = "{user}"')
    daemon.write(instance)
    assert daemon.ctl("check", str(daemon.path)).returncode == 0
    daemon.start()
    nginx.start()
    (name,) = (entry["name"] for entry in daemon.document()["instances"])
    daemon.wait_for(name, "ready")

    browser = Browser(nginx.port, "/stats/", "127.0.0.1")
    assert browser.log_in("wrong").status_code == 401
    assert browser.log_in(PASSWORD).status_code == 302
    kernel = browser.start_kernel()
    seen = browser.execute(kernel, "import os; print(os.getcwd(), os.environ['COURSE'], os.environ['SEMINAR'])")
    assert seen == f"{home}/notebooks statistics group one\n"
