"""The doctor judges certificates as a browser would."""

import time
from pathlib import Path

import pytest
from rig.certificates import Authority

from jlabd.core.hosts import Certificate
from jlabd.doctor.findings import Grade
from jlabd.doctor.tls import about, examine
from jlabd.spec import Configuration, InstanceSpec, NginxSpec, RouteSpec, UnixListen

DAY_S = 86400


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Who gives out certificates."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority):
    """A certificate for some names, for 30 days."""
    return Certificate(*authority.certificate("a.org", "127.0.0.1", "*.x.org"))


def found(pair, names, days=0):
    """Return grades and sentences about a certificate in some days."""
    findings = about(pair, names, time.time() + days * DAY_S)
    return [(finding.grade, finding.sentence.replace(f"{Path(pair.path).parent}/", "")) for finding in findings]


@pytest.mark.parametrize(
    ("names", "days", "expected"),
    [
        (["a.org", "127.0.0.1", "*.x.org"], 0, [(Grade.GOOD, "1-a.org.pem is valid for 29 more days")]),
        (["a.org"], 20, [(Grade.ADVICE, "1-a.org.pem is valid for 9 more days only, and was not renewed")]),
        (["a.org"], 40, [(Grade.WRONG, "1-a.org.pem has expired, so browsers refuse it")]),
        (
            ["b.org", "a.org", "x.org", "127.0.0.2"],
            1,
            [
                *(
                    (Grade.WRONG, f"1-a.org.pem is not for {name}, so browsers refuse to go there")
                    for name in ("b.org", "x.org", "127.0.0.2")
                ),
                (Grade.GOOD, "1-a.org.pem is valid for 28 more days"),
            ],
        ),
    ],
)
def test_names_and_time(pair, names, days, expected):
    """Every name under which people come must be in it, and it must be valid for a while."""
    assert found(pair, names, days) == expected


def test_a_key_that_everybody_reads(authority):
    """Who has the key can be the host."""
    pair = Certificate(*authority.certificate("a.org"))
    Path(pair.key_path).chmod(0o644)
    [(grade, sentence), _] = found(pair, ["a.org"])
    assert (grade, sentence) == (Grade.WRONG, f"everybody on this machine can read {Path(pair.key_path).name}")


def test_what_cannot_be_used(authority, pair):
    """A missing file and a key of another certificate are said in words."""
    other = Certificate(pair.path, authority.certificate("b.org")[1])
    assert [finding.grade for finding in about(other, ["a.org"], 0)] == [Grade.WRONG]
    assert "is not the key of the certificate" in found(other, ["a.org"])[0][1]
    assert "does not exist" in found(Certificate("/nonexistent", "/nonexistent"), ["a.org"])[0][1]


def test_which_hosts(authority, pair):
    """The shared host by its first name, own hosts by theirs; nothing without TLS, or with nginx switched off."""
    own = authority.certificate("c.org")
    route = RouteSpec(tls_certificate=own[0], tls_certificate_key=own[1])
    sock = UnixListen("/x.sock")
    instances = {
        "a": InstanceSpec("a", sock),
        "b": InstanceSpec("b", sock, server_name="b.x.org"),
        "c": InstanceSpec("c", sock, server_name="d.org", route=route),
    }
    tls = {"tls_certificate": pair.path, "tls_certificate_key": pair.key_path}
    wanted = Configuration("/x", nginx=NginxSpec(server_names=("a.org", "localhost"), **tls), instances=instances)
    said = [finding.sentence for finding in examine(wanted) if finding.grade is not Grade.GOOD]
    assert said == [f"{own[0]} is not for d.org, so browsers refuse to go there"]
    assert list(examine(Configuration("/x", nginx=NginxSpec(enabled=False, **tls), instances=instances))) == []
    assert list(examine(Configuration("/x", nginx=NginxSpec(server_names=("a.org",)), instances={}))) == []
