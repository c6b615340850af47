"""Whatever stands in the file, the result is problems or a configuration, never another exception."""

from pathlib import Path

import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jlabd.config.model import DaemonTable, NginxTable, TemplateTable
from jlabd.config.read import check

PATH = Path("/nonexistent/jlabd.toml")
NESTED = ["initial", "signal", "timeout", "interval", "stop_after", "memory_max", "max_size", "transport", "A"]
NAMES = ["a", "a b", "../x", "a" * 40]


def _keys(model):
    return [field.alias or name for name, field in model.model_fields.items()]


values = st.recursive(
    st.one_of(
        st.integers(),
        st.floats(),
        st.booleans(),
        st.text(max_size=10),
        st.datetimes(),
        st.sampled_from(["", "unix", "{home}", "{user}/{x}", "/x", "1h", "8888", "[::1]:1", "a.b", "sha1:a:b", "TERM"]),
    ),
    lambda below: st.one_of(
        st.lists(below, max_size=3), st.dictionaries(st.one_of(st.text(max_size=5), st.sampled_from(NESTED)), below)
    ),
    max_leaves=8,
)


def table(model):
    """Make tables with keys of `model` and any values."""
    return st.dictionaries(st.sampled_from(_keys(model)), values, max_size=6)


documents = st.fixed_dictionaries(
    {},
    optional={
        "daemon": table(DaemonTable),
        "nginx": table(NginxTable),
        "defaults": table(TemplateTable),
        "instance": st.dictionaries(st.sampled_from(NAMES), table(TemplateTable), max_size=3),
        "template": st.dictionaries(st.sampled_from(NAMES), table(TemplateTable), max_size=3),
        "other": values,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(documents, st.sampled_from([0, 12345]))
def test_any_values(files, document, uid):
    """Keys that exist with any values, at any place, are judged with a line each."""
    text = tomlkit.dumps(document)
    problems = check(PATH, accounts=files.people, uid=uid, texts={PATH: text.encode()})
    for problem in problems:
        assert problem.message
        assert "\n" not in str(problem)
        if problem.file == str(PATH):
            assert problem.line is not None
            assert 1 <= problem.line <= text.count("\n") + 1
    if "other" in document:
        assert any(problem.key == "other" for problem in problems)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes(files, data):
    """Any bytes are judged."""
    check(PATH, accounts=files.people, uid=0, texts={PATH: data})
