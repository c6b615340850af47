"""The SELinux module: it fits the reference policy and one with EL's names, and allows what the labs need and no more.

Linked into Debian's own policy, which is not in force here; what is asserted is what the linked policy says.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.booted import TOP
from tests.packaging.policy import Policy

EL_NAMES = """
module el_names 1.0;
require {
    attribute domain, file_type, unconfined_domain_type;
    role system_r;
    class process { dyntransition transition };
    class file { entrypoint execute };
}
type systemd_systemctl_exec_t, file_type;
type home_bin_t, file_type;
type systemd_unit_file_t, file_type;
type unconfined_service_t, domain, unconfined_domain_type;
role system_r types unconfined_service_t;
"""
"""Names that the policies of Enterprise Linux and Fedora have, and the reference policy has not."""


@pytest.fixture(scope="module")
def module(packages, tmp_path_factory):
    """The compiled module, out of its package."""
    place = tmp_path_factory.mktemp("selinux")
    command = f"rpm2cpio '{packages.of('el9', 'jlabd-selinux')}' | cpio --extract --make-directories --quiet"
    subprocess.run(["sh", "-c", command], cwd=place, check=True)
    return place / "usr/share/selinux/packages/targeted/jlabd.pp"


@pytest.fixture(scope="module")
def policy(debian_policy, module, tmp_path_factory):
    """The reference policy with our module."""
    with Policy.of(debian_policy, tmp_path_factory.mktemp("refpolicy") / "root") as made:
        made.change("-i", module)
        yield made


@pytest.fixture(scope="module")
def el_policy(policy, tmp_path_factory):
    """The same, with the names that EL's policy has in addition."""
    place = tmp_path_factory.mktemp("names")
    (place / "el_names.te").write_text(EL_NAMES)
    for command in (
        ["checkmodule", "-M", "-m", "-o", "el_names.mod", "el_names.te"],
        ["semodule_package", "-o", "el_names.pp", "-m", "el_names.mod"],
    ):
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    with policy.copy(place / "root") as made:
        made.change("-i", place / "el_names.pp")
        yield made


def test_started_by_systemd_in_its_own_domain(policy):
    """systemd starts jlabd in jlabd_t, from a file that is labelled for it, and nobody else gets there."""
    assert policy.becomes("init_t", "jlabd_exec_t") == "jlabd_t"
    assert "transition" in policy.allowed("init_t", "jlabd_t", "process")
    assert {"entrypoint", "execute"} <= policy.allowed("jlabd_t", "jlabd_exec_t", "file")
    assert policy.label("/usr/bin/jlabd", "file") == "jlabd_exec_t"
    assert policy.label("/usr/bin/jlabctl", "file") == "bin_t"
    assert policy.allowed("init_t", "jlabd_t", "unix_stream_socket") >= {"read", "write"}, "for its store"
    assert policy.allowed("jlabd_t", "init_t", "unix_dgram_socket") >= {"sendto"}, "ready, watchdog"
    assert policy.allowed("jlabd_t", "init_t", "system") == {"status"}


def test_the_daemon_is_confined(policy):
    """jlabd writes what is its own, reads no secrets of the system, and runs no program of a user."""
    for target, kind in {
        "etc_t": "file",
        "shadow_t": "file",
        "user_home_t": "file",
        "httpd_config_t": "file",
        "bin_t": "file",
        "usr_t": "file",
        "init_t": "process",
    }.items():
        changes = {"append", "create", "rename", "setattr", "unlink", "write", "ptrace", "transition"}
        assert policy.allowed("jlabd_t", target, kind) & changes == set(), target
    assert policy.allowed("jlabd_t", "shadow_t", "file") == {"getattr"}
    assert "execute_no_trans" not in policy.allowed("jlabd_t", "user_home_t", "file")
    assert "jlabd_t" not in policy.having("unconfined_domain_type")
    forbidden = {"sys_module", "sys_rawio", "sys_boot", "sys_time", "net_admin", "mac_admin", "audit_control", "mknod"}
    assert policy.allowed("jlabd_t", "jlabd_t", "capability") & forbidden == set()


def test_nginx_reaches_the_labs(policy):
    """nginx connects to the sockets that jlabd made, and reads what jlabd writes, but changes nothing."""
    assert "connectto" in policy.allowed("httpd_t", "jlabd_t", "unix_stream_socket")
    assert policy.allowed("httpd_t", "jlabd_run_t", "sock_file") == {"getattr", "write"}
    assert "search" in policy.allowed("httpd_t", "jlabd_run_t", "dir")
    assert policy.label("/run/jlabd/sockets/ann.sock", "socket") == "jlabd_run_t"
    assert policy.label("/etc/nginx/jlabd.d/live", "link") == "jlabd_nginx_conf_t"
    assert policy.allowed("httpd_t", "jlabd_nginx_conf_t", "file") >= {"open", "read"}
    assert "write" not in policy.allowed("httpd_t", "jlabd_nginx_conf_t", "file")
    assert policy.allowed("jlabd_t", "jlabd_nginx_conf_t", "lnk_file") >= {"create", "rename", "unlink"}
    for secret in ("jlabd_conf_t", "jlabd_var_lib_t"):
        assert "read" not in policy.allowed("httpd_t", secret, "file"), secret


def test_jlabd_asks_nginx_as_nginx(policy):
    """`nginx -t` and `nginx -s reload` run in nginx's own domain, with what nginx may read, and jlabd hears it."""
    assert policy.becomes("jlabd_t", "httpd_exec_t") == "httpd_t"
    assert "transition" in policy.allowed("jlabd_t", "httpd_t", "process")
    assert "write" in policy.allowed("httpd_t", "jlabd_t", "fifo_file")


@pytest.mark.parametrize("user", ["unconfined_t", "user_t", "staff_t"])
def test_labs_are_where_a_login_would_be(policy, user):
    """A lab starts in its user's domain, takes along what jlabd gave it, and can be looked after by jlabd."""
    over = {"transition", "rlimitinh", "siginh", "noatsecure", "sigkill", "signal", "ptrace"}
    assert over <= policy.allowed("jlabd_t", user, "process")
    assert {"setexec", "setcurrent", "setcap"} <= policy.allowed("jlabd_t", "jlabd_t", "process")
    assert {"transition", "dyntransition"} <= policy.allowed("jlabd_t", user, "process"), "cold and warm starts"
    for program in ("bin_t", "usr_t", "user_home_t"):
        assert "entrypoint" in policy.allowed(user, program, "file"), program
        assert "execute" in policy.allowed("jlabd_t", program, "file"), program
    assert {"accept", "read", "write", "getopt", "setopt"} <= policy.allowed(user, "jlabd_t", "unix_stream_socket")
    assert "append" in policy.allowed(user, "jlabd_log_t", "file")
    assert {"create", "write", "unlink"} <= policy.allowed(user, "jlabd_lab_run_t", "sock_file")
    assert policy.label("/run/jlabd/labs/ann.1", "dir") == "jlabd_lab_run_t"
    assert "connectto" in policy.allowed(user, "jlabd_t", "unix_stream_socket"), "jlabctl"


def test_administrators_are_not_reached(policy):
    """A lab cannot be started in an administrator's domain, as nobody can log in there by ssh."""
    assert "transition" not in policy.allowed("jlabd_t", "sysadm_t", "process")
    for user in ("user_t", "staff_t"):
        for secret in ("jlabd_conf_t", "jlabd_var_lib_t"):
            assert "read" not in policy.allowed(user, secret, "file"), secret


def test_ports_and_cgroups(policy):
    """Any port of the configuration can be bound and asked; labs get cgroups of their own."""
    for port in ("unreserved_port_t", "http_port_t"):
        assert {"name_bind", "name_connect"} <= policy.allowed("jlabd_t", port, "tcp_socket"), port
    assert {"create", "add_name", "rmdir"} <= policy.allowed("jlabd_t", "cgroup_t", "dir")
    assert "write" in policy.allowed("jlabd_t", "cgroup_t", "file")


def test_names_of_enterprise_linux(el_policy, policy):
    """What only EL's policy has by these names is used there, and all else holds there as well."""
    assert "execute_no_trans" in el_policy.allowed("jlabd_t", "systemd_systemctl_exec_t", "file")
    assert el_policy.allowed("jlabd_t", "systemd_unit_file_t", "service") == {"status"}
    assert "entrypoint" in el_policy.allowed("user_t", "home_bin_t", "file")
    for source, target, kind in [
        ("httpd_t", "jlabd_t", "unix_stream_socket"),
        ("jlabd_t", "unconfined_t", "process"),
        ("jlabd_t", "jlabd_t", "capability"),
    ]:
        assert el_policy.allowed(source, target, kind) == policy.allowed(source, target, kind)


def test_links_without_nginx_and_without_unconfined_users(policy, tmp_path):
    """What is optional is: a strict policy without web server takes the module too."""
    with policy.copy(tmp_path / "root") as strict:
        strict.change("-r", "apache", "unconfined")
        assert "transition" in strict.allowed("jlabd_t", "user_t", "process")
        assert strict.becomes("jlabd_t", "bin_t") is None


def test_for_other_policies(policy, tmp_path):
    """The same source compiles with a distribution's headers, and a module of an administrator's can use jlabd.if."""
    makefile = Path("/usr/share/selinux/devel/Makefile")
    if not makefile.exists():
        pytest.skip("NO HEADERS: apt install selinux-policy-dev")
    for path in (TOP / "packaging/selinux").iterdir():
        shutil.copy(path, tmp_path)
    words = "policy_module(other, 1.0)\ntype haproxy_t;\ndomain_type(haproxy_t)\n"
    words += "jlabd_stream_connect(haproxy_t)\njlabd_read_nginx_config(haproxy_t)\n"
    (tmp_path / "other.te").write_text(words)
    command = ["make", "-s", "-f", makefile, "jlabd.pp", "other.pp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    with policy.copy(tmp_path / "root") as linked:
        linked.change("-i", tmp_path / "jlabd.pp", tmp_path / "other.pp")
        assert "connectto" in linked.allowed("haproxy_t", "jlabd_t", "unix_stream_socket")
        assert "read" in linked.allowed("haproxy_t", "jlabd_nginx_conf_t", "file")
