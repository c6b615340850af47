"""Run scripts, as people write them, in jlabd's words."""

import pytest

from jlabd.config.importers.findings import ImportFailedError
from tests.config.importing.given import HASH


def test_script_of_a_program(files):
    """A program that starts a script becomes what the script starts."""
    files.write(
        "run.sh",
        """#!/bin/bash
set -euo pipefail
# Start Alice's lab.
PORT=8895
cd "$HOME/work" || exit 1
source ~/venv/bin/activate
export OMP_NUM_THREADS=4 MPLBACKEND=agg
ulimit -n 16384
umask 027
mkdir -p logs
exec jupyter lab --no-browser \\
    --port=${PORT} --ip="${BIND:-0.0.0.0}" \\
    >> logs/lab.log 2>&1
""",
    )
    result = files.one("lab.ini", "[program:lab]\nuser=alice\ncommand={folder}/run.sh\ndirectory=/tmp\n")
    assert result.only == {
        "user": "alice",
        "root_dir": "/home/alice/work",
        "venv": "/home/alice/venv",
        "env": {"OMP_NUM_THREADS": "4", "MPLBACKEND": "agg"},
        "limits": {"open_files": 16384},
        "umask": "0027",
    }
    assert "private unix socket" in result.why("ip = '0.0.0.0'")
    assert "runs no script" in result.why("mkdir -p logs")
    assert "jlabctl logs" in result.why(">>logs/lab.log, 2>&1")
    assert f"{files.folder}/run.sh:10: mkdir -p logs" in result.comments


@pytest.mark.parametrize(
    ("lines", "venv"),
    [
        (". /srv/lab/bin/activate", "/srv/lab"),
        ("source /opt/conda/bin/activate science", "/opt/conda/envs/science"),
        ("source /opt/conda/etc/profile.d/conda.sh\nconda activate science", "/opt/conda/envs/science"),
        ("source /opt/miniforge3/etc/profile.d/conda.sh; conda activate", "/opt/miniforge3"),
        ("source /opt/conda/bin/activate\nconda activate /srv/envs/lab", "/srv/envs/lab"),
        ('VENV=/srv/lab\n. "$VENV/bin/activate"', "/srv/lab"),
        ("export MAMBA_ROOT_PREFIX=/opt/mamba\nmicromamba activate lab", "/opt/mamba/envs/lab"),
    ],
)
def test_environments(files, lines, venv):
    """The environment that a script activates is the instance's, venv or conda."""
    result = files.one("run.sh", f"#!/bin/sh\n{lines}\njupyter lab &\n")
    assert result.only["venv"] == venv
    assert "foreground" in result.why("&")


@pytest.mark.parametrize(
    "command",
    [
        "exec jupyter lab --port 8896",
        "nohup /v/bin/jupyter-lab --port=8896 &",
        "env PYTHONUNBUFFERED=1 /v/bin/python3.11 -m jupyterlab --port=8896",
        "nice -n 10 /v/bin/jupyter notebook --NotebookApp.port=8896",
        "sudo -u bob -H /v/bin/jupyter lab --port=8896",
        "runuser -u bob -- /v/bin/jupyter lab --port=8896",
        "su - bob -c '/v/bin/jupyter lab --port=8896'",
        "poetry run jupyter lab --port=8896",
        "jupyter lab stop; jupyter lab --port=8896",
        "conda run -n science --no-capture-output jupyter lab --port=8896",
        "while true; do /v/bin/jupyter lab --port=8896; sleep 1; done",
        "bash -c 'bash -c \"jupyter lab --port=8896\"'",
    ],
)
def test_ways_to_start_it(files, command):
    """However the lab is started, its options are found."""
    assert files.one("run.sh", f"#!/bin/bash\n{command}\n").only["listen"] == "127.0.0.1:8896"


def test_hash_in_single_quotes(files):
    """In single quotes a hash stays what it is; in double quotes the shell would have taken it apart."""
    good = files.one("a.sh", f"#!/bin/sh\n/v/bin/jupyter lab --ServerApp.password='{HASH}'\n")
    assert good.only["password_hash"] == HASH
    bad = files.one("b.sh", f'#!/bin/sh\n/v/bin/jupyter lab --ServerApp.password="{HASH}"\n')
    assert "password_hash" not in bad.only


def test_what_only_a_shell_knows(files):
    """Substitutions, unknown variables, sourced files and branches become remarks, and are not made up."""
    text = """#!/bin/bash
source /etc/profile.d/proxy.sh
TOKEN=$(cat /etc/lab-token)
if [ "$1" = debug ]; then
    set -x
fi
started=$(date)
cat > /tmp/motd <<EOF
jupyter lab --port=1
EOF
jupyter lab --port=$LAB_PORT --NotebookApp.token=$TOKEN --ip=`hostname -i`
"""
    result = files.one("run.sh", text)
    assert "listen" not in result.only
    assert "not followed" in result.why("source /etc/profile.d/proxy.sh")
    assert "branches" in result.why("if, then")
    assert "write what it comes to" in result.why("--port=$LAB_PORT")
    assert "hostname -i" in result.text
    assert "token=…" in result.text
    assert "only a shell knows" in result.why("started=$(date)")
    assert "$TOKEN" not in result.text


def test_script_that_is_not_there(files):
    """A program whose script cannot be read still becomes an instance, which says so."""
    result = files.one("x.ini", "[program:x]\nuser=alice\ncommand=/srv/start-lab.sh --fast\n")
    assert "give it too" in result.why("/srv/start-lab.sh")
    assert "not followed into it" in result.why("arguments of the script: --fast")


def test_script_given_under_another_path(files):
    """A copy of the script is taken for the one that the program names."""
    files.write("copy/start.sh", "#!/bin/sh\nexec /v/bin/jupyter-lab --port=8897\n")
    result = files.imported(
        {"x.ini": "[program:x]\nuser=alice\ncommand=bash /srv/start.sh\n"}, f"{files.folder}/copy/start.sh"
    )
    assert result.only["listen"] == "127.0.0.1:8897"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("#!/bin/sh\njupyter lab 'x\n", ":2: a single quotation mark is not closed"),
        ('#!/bin/sh\n\njupyter lab "x\n', ":3: a double quotation mark is not closed"),
        ("#!/bin/sh\ncat <<EOF\njupyter lab\n", ":2: << EOF is not ended"),
        ("#!/bin/sh\njupyter lab $(date\n", ":2: $( is not closed"),
    ],
)
def test_errors_name_the_line(files, text, error):
    """What a shell could not read is an error with file and line."""
    with pytest.raises(ImportFailedError) as failed:
        files.one("run.sh", text)
    assert error in str(failed.value)
