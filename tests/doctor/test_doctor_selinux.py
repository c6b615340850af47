"""What `jlabctl doctor` makes of SELinux: denials in real lines of audit logs, labels, booleans, domains."""

from types import MappingProxyType

import pytest

from jlabd.doctor import selinux
from jlabd.doctor.denials import Denial, ours, parse
from jlabd.doctor.findings import Grade
from jlabd.spec import Configuration, InstanceSpec, NginxSpec, TcpListen, UnixListen

CONNECT = (
    'type=AVC msg=audit(1421274762.358:1081): avc:  denied  { name_connect } for  pid=5642 comm="nginx" dest=8081 '
    "scontext=unconfined_u:system_r:httpd_t:s0 tcontext=system_u:object_r:transproxy_port_t:s0 tclass=tcp_socket"
)
BIND = (
    "type=AVC msg=audit(05/23/2026 17:06:14.179:446) : avc:  denied  { name_bind } for  pid=8458 comm=nginx src=8888 "
    "scontext=system_u:system_r:httpd_t:s0 tcontext=system_u:object_r:unreserved_port_t:s0 "
    "tclass=tcp_socket permissive=0"
)
STRANGER = (
    'type=AVC msg=audit(1700326791.924:28417): avc:  denied  { write } for  pid=379029 comm="auth" '
    'name=".s.PGSQL.5432" dev="tmpfs" ino=21504 scontext=system_u:system_r:dovecot_auth_t:s0 '
    "tcontext=system_u:object_r:postgresql_var_run_t:s0 tclass=sock_file permissive=0"
)
# As the kernel wrote them on a Debian 12 in permissive mode, without auditd, before the policy module was complete.
KERNEL = """\
Nov 27 21:04:27 vm kernel: audit: type=1400 audit(1795813467.687:39): avc:  denied  { net_admin } for  pid=194 \
comm="systemctl" capability=12  scontext=system_u:system_r:jlabd_t:s0 tcontext=system_u:system_r:jlabd_t:s0 \
tclass=capability permissive=1
Nov 27 21:03:58 vm kernel: audit: type=1400 audit(1795813438.527:37): avc:  denied  { getattr } for  pid=165 \
comm="jlabd" path="/srv/labs" dev="nvme0n1" ino=12128 scontext=system_u:system_r:jlabd_t:s0 \
tcontext=system_u:object_r:unlabeled_t:s0 tclass=dir permissive=1
Nov 27 21:29:52 vm kernel: audit: type=1400 audit(1795814992.011:91): avc:  denied  { ioctl } for  pid=307 \
comm="jlabd" path="/proc/185/stat" dev="proc" ino=3021 ioctlcmd=0x5401 scontext=system_u:system_r:jlabd_t:s0 \
tcontext=system_u:system_r:httpd_t:s0 tclass=file permissive=0
"""


def test_lines_of_the_kernel():
    """Without auditd the kernel's log has the same lines, with other words before."""
    systemctl, folder, terminal = parse(KERNEL)
    assert systemctl == Denial(("net_admin",), "jlabd_t", "jlabd_t", "capability", "systemctl", "", enforced=False)
    assert folder.what == "jlabd_t to getattr the dir /srv/labs (unlabeled_t)"
    assert (terminal.target, terminal.enforced) == ("httpd_t", True)
    fixes = [fix for _, fix in ours([systemctl, folder, terminal], frozenset())]
    assert fixes[1] == "restorecon -Rv /srv/labs"
    assert "audit2allow" in fixes[0]


def test_a_fix_can_be_pasted_into_a_shell():
    """Paths are whatever a user named them."""
    [(_, fix)] = ours(parse(KERNEL.replace("/srv/labs", "/srv/$(reboot);x"))[1:2], frozenset())
    assert fix == "restorecon -Rv '/srv/$(reboot);x'"
    [(_, fix)] = ours([Denial(("execute",), "jlabd_t", "user_home_t", "file", object="/home/a/v;x")], frozenset())
    assert fix.endswith("restorecon -v '/home/a/v;x'")


def test_fields_of_a_line():
    """Types, class, permissions, program and object are read, from raw and from interpreted lines alike."""
    assert parse(CONNECT) == [
        Denial(("name_connect",), "httpd_t", "transproxy_port_t", "tcp_socket", "nginx", "8081", enforced=True)
    ]
    assert parse(BIND) == [
        Denial(("name_bind",), "httpd_t", "unreserved_port_t", "tcp_socket", "nginx", "8888", enforced=True)
    ]


def test_other_lines_are_passed_over():
    """What is no denial, or not whole, is no reason to fail; the same denial again is not told again."""
    rubbish = "type=SYSCALL msg=audit(1.0:1): arch=c000003e syscall=42\navc:  denied  { read } for  pid=1\n\0\n"
    assert parse(rubbish + CONNECT + "\n" + CONNECT) == parse(CONNECT)


def test_names_in_hexadecimal():
    """The audit log writes names with spaces in hexadecimal."""
    line = BIND.replace("src=8888", "path=" + b"/opt/a b".hex().upper())
    assert parse(line)[0].object == "/opt/a b"


def line(permissions, source, target, kind, what="", *, permissive=0):
    """Return a line as the kernel writes it."""
    return (
        f'type=AVC msg=audit(1796.1:1): avc:  denied  {{ {permissions} }} for  pid=7 comm="x" {what} '
        f"scontext=system_u:system_r:{source}:s0 tcontext=system_u:object_r:{target}:s0 tclass={kind} "
        f"permissive={permissive}"
    )


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        (CONNECT, "setsebool -P httpd_can_network_connect on"),
        (BIND, "semanage port -a -t http_port_t -p tcp 8888"),
        (
            line(
                "connectto",
                "httpd_t",
                "unconfined_service_t",
                "unix_stream_socket",
                'path="/run/jlabd/sockets/ann.sock"',
            ),
            "dnf install jlabd-selinux",
        ),
        (
            line("write", "httpd_t", "var_run_t", "sock_file", 'name="ann.sock" dev="tmpfs"'),
            "restorecon -Rv /run/jlabd",
        ),
        (line("read", "jlabd_t", "default_t", "file", 'name="key"'), "restorecon -Rv /etc/jlabd.toml"),
        (line("transition", "jlabd_t", "sysadm_t", "process", 'path="/usr/bin/python3.12"'), "semanage login"),
        (line("execute", "jlabd_t", "var_t", "file", 'path="/srv/venv/bin/python3"'), "semanage fcontext -a -t bin_t"),
        (line("bpf", "jlabd_t", "jlabd_t", "capability2"), "audit2allow -M jlabd-local"),
    ],
)
def test_each_has_its_fix(text, fix):
    """A denial that keeps labs from working is told with the command that mends it."""
    ((_, said),) = ours(parse(text), frozenset({"8081", "8888"}))
    assert fix in said


@pytest.mark.parametrize(
    "text",
    [STRANGER, CONNECT.replace("8081", "5432"), line("write", "httpd_t", "var_run_t", "dir", 'name="php"')],
)
def test_what_others_are_refused_is_not_our_business(text):
    """Denials of other programs, or of nginx for other reasons, are not told."""
    assert list(ours(parse(text), frozenset({"8081"}))) == []


def test_findings():
    """Enforced denials are wrong, those that were only noted are advice; many are not told one by one."""
    many = "\n".join(line("read", "jlabd_t", "default_t", "file", f'name="{n}"', permissive=1) for n in range(12))
    findings = list(selinux.judge(parse(BIND + "\n" + many), frozenset({"8888"})))
    assert findings[0].grade is Grade.WRONG
    assert "refused httpd_t to name_bind the tcp_socket 8888" in findings[0].sentence
    assert {finding.grade for finding in findings[1:]} == {Grade.ADVICE}
    assert "and 5 more" in findings[-1].sentence
    assert [finding.grade for finding in selinux.judge([], frozenset())] == [Grade.GOOD]


def configuration(*listens):
    """Return a configuration with instances that listen there."""
    specs = {f"lab{n}": InstanceSpec(name=f"lab{n}", listen=listen) for n, listen in enumerate(listens)}
    return Configuration(
        "/etc/jlabd.toml", nginx=NginxSpec(listen=("80", "[::]:8888")), instances=MappingProxyType(specs)
    )


def test_booleans():
    """nginx needs a boolean only for instances that listen on a port."""
    tcp = configuration(TcpListen("127.0.0.1", 9001), UnixListen("/run/x"))
    (finding,) = selinux.about_booleans(tcp, can_connect=False)
    assert "lab0" in finding.sentence
    assert "setsebool -P httpd_can_network_connect on" in finding.fix
    assert list(selinux.about_booleans(tcp, can_connect=True)) == []
    assert list(selinux.about_booleans(configuration(UnixListen("/run/x")), can_connect=False)) == []
    assert selinux.ports_of(tcp) == {"80", "8888", "9001"}


def test_domain():
    """A jlabd outside of its own domain is wrong: nginx cannot connect to it."""
    assert [finding.grade for finding in selinux.about_domain("jlabd_t", 7)] == [Grade.GOOD]
    (finding,) = selinux.about_domain("unconfined_service_t", 7)
    assert finding.grade is Grade.WRONG
    assert "jlabd-selinux" in finding.fix
    assert list(selinux.about_domain("", None)) == []


def test_labels():
    """Wrong labels are named, as matchpathcon says them, and mended by restorecon."""
    said = "/usr/bin/jlabd has context system_u:object_r:bin_t:s0, should be system_u:object_r:jlabd_exec_t:s0"
    (finding,) = selinux.about_labels([said])
    assert finding.fix == "restorecon -Rv /usr/bin/jlabd"
    assert list(selinux.about_labels([])) == []


def test_machine_without_selinux(monkeypatch, tmp_path):
    """Where the kernel has no SELinux nothing else is looked at."""
    monkeypatch.setattr(selinux, "STATE", tmp_path / "none")
    (finding,) = selinux.examine(configuration(), 1)
    assert finding.sentence == "not in use on this machine"


def test_whole_examination(monkeypatch, tmp_path):
    """Where it is enforcing, state, domain and denials are all told."""
    (tmp_path / "enforce").write_text("1")
    (tmp_path / "audit.log").write_text(BIND + "\n")
    monkeypatch.setattr(selinux, "STATE", tmp_path)
    monkeypatch.setattr(selinux, "AUDIT_LOG", tmp_path / "audit.log")
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = list(selinux.examine(configuration(), None))
    assert [finding.sentence.split(":")[0] for finding in findings] == [
        "enforcing",
        "refused httpd_t to name_bind the tcp_socket 8888 (unreserved_port_t)",
    ]
