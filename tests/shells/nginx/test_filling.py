"""The administrator's own template: what it is told, what it may do, and where it is wrong."""

import pytest

from jlabd.nginx.filling import fill_own
from jlabd.nginx.render import RenderError, render
from jlabd.nginx.surroundings import Surroundings
from jlabd.spec import NginxSpec, RouteSpec
from tests.shells.nginx.servers import configured, instance

PATH = "/etc/jlabd.d/host.conf.j2"
NGINX = NginxSpec(server_names=("lab.example.com",))


def rendered(text, **more):
    """Render an instance with an own template."""
    alice = instance("alice", route=RouteSpec(template=PATH), **more)
    return render(configured(NGINX, alice), Surroundings(templates={PATH: text}))


def test_what_it_is_told():
    """It knows all that ours know, and may include them."""
    text = "{{ name }} {{ base_url }} {{ upstream | quoted }} {{ read_timeout_ms }}\n"
    files = rendered(text + '{% include "location.conf.j2" %}')
    expected = 'alice /alice/ "http://unix:/run/jlabd/sockets/alice.sock" 86400000\n# alice\n'
    assert files["locations/alice.conf"].startswith(expected)
    files = rendered("{{ host.names[0] }} {{ host.plain }}", server_name="a.example.com")
    assert files["hosts/alice.conf"] == "a.example.com ['*:80']"


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("a\n\n{{ nmae }}", 3, "'nmae' is undefined"),
        ("a\n{% if %}", 2, "Expected an expression"),
        ("a\n{% include 'gone.j2' %}", 2, "gone.j2"),
        ("{{ name | qouted }}", 1, "No filter named 'qouted'"),
        ("\n{{ 'a;b' | quoted }}", 2, "cannot hold safely"),
        ("\n\n{{ name + 1 }}", 3, "str"),
        ("{{ 1 // 0 }}", 1, "zero"),
        ("\n{{ ''.__class__.__mro__ }}", 2, "unsafe"),
        ("{{ name.__init__.__globals__ }}", 1, "unsafe"),
        ("{% set _ = host.update(a=1) %}", 1, "None"),
        ("{% for i in range(10000000) %}x{% endfor %}", 1, "too big"),
        ("a\n{% macro m() %}\n{{ nmae }}{% endmacro %}\n{{ m() }}", 3, "'nmae' is undefined"),
    ],
)
def test_where_it_is_wrong(text, line, sentence):
    """The error names the file and the line, and nothing but the values that it is given can be reached."""
    with pytest.raises(RenderError) as told:
        rendered(text)
    assert str(told.value).startswith(f"{PATH}:{line}: ")
    assert sentence in str(told.value)


def test_values_cannot_be_changed():
    """What a template does to a list is not seen by the next one."""
    with pytest.raises(RenderError, match=r":1: .*'append' of 'list' object is unsafe"):
        fill_own(PATH, "{{ names.append('x') }}", {"names": []})
