"""The scanner that finds the lines of keys, against tomllib as the judge of what keys there are."""

import itertools
import json
import tomllib

import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from jlabd.config.positions import key_lines, line_of

EXAMPLE = '''# a comment with [brackets] and key = "value"
top = 1
dotted.key . "with.dot" = """
[not.a.header]
key = 1 \\""" still ""\\
"""""

[ instance . "alice" ] # comment
restart = { initial = "1s", "max" = '2s', deep.er = [1, { x = 1 }] }
args = [ # comment ]
  "one, ]",
  [ 2,
    3 ],  # "
  \'\'\'
four \'\' ]
\'\'\',
]
"qu\\u006fted" = 1979-05-27 07:32:00
'lit.eral' = true

[[server]]
name = "a"
[[server.port]]
n = 1
[[server.port]]
n = 2
[server.limits]
x = inf
[[server]]
name = "b"
[instance.bob.log]
keep = 0x1F
'''

EXPECTED = {
    ("top",): 2,
    ("dotted", "key", "with.dot"): 3,
    ("instance",): 8,
    ("instance", "alice"): 8,
    ("instance", "alice", "restart", "initial"): 9,
    ("instance", "alice", "restart", "max"): 9,
    ("instance", "alice", "restart", "deep", "er", 1, "x"): 9,
    ("instance", "alice", "args"): 10,
    ("instance", "alice", "args", 0): 11,
    ("instance", "alice", "args", 1): 12,
    ("instance", "alice", "args", 1, 1): 13,
    ("instance", "alice", "args", 2): 14,
    ("instance", "alice", "quoted"): 18,
    ("instance", "alice", "lit.eral"): 19,
    ("server",): 21,
    ("server", 0, "name"): 22,
    ("server", 0, "port", 0, "n"): 24,
    ("server", 0, "port", 1): 25,
    ("server", 0, "port", 1, "n"): 26,
    ("server", 0, "limits", "x"): 28,
    ("server", 1): 29,
    ("server", 1, "name"): 30,
    ("instance", "bob"): 31,
    ("instance", "bob", "log", "keep"): 32,
}


def _keys(value, key=()):
    """Yield the key path of everything in a document."""
    if key:
        yield key
    match value:
        case dict():
            for name, below in value.items():
                yield from _keys(below, (*key, name))
        case list():
            for number, below in enumerate(value):
                yield from _keys(below, (*key, number))


def test_lines_of_an_example():
    """Dotted and quoted keys, inline tables, lists, long texts, comments and lists of tables: each key has its line."""
    lines = key_lines(EXAMPLE)
    assert {key: lines.get(key) for key in EXPECTED} == EXPECTED
    assert set(lines) == set(_keys(tomllib.loads(EXAMPLE)))


def test_carriage_returns():
    """Files from Windows have the same lines."""
    assert key_lines(EXAMPLE.replace("\n", "\r\n")) == key_lines(EXAMPLE)


def test_nearest():
    """A key that is not there is in the line of the table around it; without one there is no line."""
    lines = key_lines("a = 1\n[b]\nc = 2\n")
    assert [line_of(lines, key) for key in [("b", "c"), ("b", "x"), ("b", "x", "y"), ("x",), ()]] == [
        3,
        2,
        2,
        None,
        None,
    ]


@given(st.text(alphabet=st.sampled_from("ab=.[]{}\"'\\#, \n\r\t1é"), max_size=60))
def test_any_text(text):
    """Whatever the text, the scanner ends without an error; what tomllib takes is found completely."""
    lines = key_lines(text)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(lines) == set(_keys(document))


def test_too_deep():
    """A text that is nested deeper than Python goes ends the scan, not the program."""
    assert key_lines("a = 1\nb = " + "[" * 100_000)[("a",)] == 1


class _Writer:
    """Writes values as TOML in one of many ways; every key has a name of its own, so that its line is known."""

    def __init__(self, draw):
        self.draw = draw
        self.numbers = itertools.count()
        self.names = {}

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def key(self):
        """Return a new key, written bare or quoted, and note how it is written."""
        name = f"k{next(self.numbers)}{self.pick('', '', '-', '.x', ' y', '#', '=', ']', 'é')}"
        bare = name.replace("-", "").isascii() and name.replace("-", "").isalnum()
        quoted = [json.dumps(name, ensure_ascii=False), f"'{name}'"]
        written = self.pick(*([name] * bare), *quoted)
        self.names[name] = written
        return written

    def scalar(self):
        return self.pick(
            *(
                "1",
                "-0.5",
                "true",
                "inf",
                "0x1f",
                "1979-05-27",
                "1979-05-27 07:32:00",
                '"a # ] } = [b]"',
                "'c\\'",
                '""',
            ),
            *('"""\n[x]\ny = "1" \\""" \n"""', "'''\n[x] \"\"\" \ny = 1\n'''", '"""a"""""', "''''b'''", '"\\""', "''"),
        )

    def space(self, newlines):
        return self.pick("", " ", "\n", " # [c] = 'x'\n\n") if newlines else self.pick("", " ", "\t")

    def value(self, depth):
        kind = self.pick("scalar", "scalar", "list", "table") if depth else "scalar"
        if kind == "list":
            items = [self.space(True) + self.value(depth - 1) + self.space(True) for _ in range(self.pick(0, 1, 3))]
            return "[" + ",".join(items) + (self.pick("", ",") if items else "") + self.space(True) + "]"
        if kind == "table":
            return "{" + ",".join(self.setting(depth - 1, False) for _ in range(self.pick(0, 1, 2))) + " }"
        return self.scalar()

    def setting(self, depth, newline=True):
        key = self.pick(".", " . ").join(self.key() for _ in range(self.pick(1, 1, 2)))
        end = self.pick("\n", " # = [x]\n", "\n\n") if newline else ""
        return f" {key}{self.space(False)}={self.space(False)}{self.value(depth)}{end}"

    def document(self):
        text = "".join(self.setting(2) for _ in range(self.pick(0, 2)))
        for _ in range(self.pick(0, 1, 4)):
            header = ".".join(self.key() for _ in range(self.pick(1, 2, 3)))
            if self.pick(True, False):
                text += f"[ {header} ]{self.pick('', ' # x')}\n"
                text += "".join(self.setting(2) for _ in range(self.pick(0, 2)))
                continue
            for _ in range(self.pick(1, 2)):
                text += f"[[{header}]]\n" + "".join(self.setting(2) for _ in range(self.pick(0, 2)))
                text += f"[{header}.{self.key()}]\n" + self.setting(1)
        return text


@st.composite
def documents(draw):
    writer = _Writer(draw)
    return writer.document(), writer.names


@settings(max_examples=300)
@given(documents())
def test_every_key_is_in_its_line(written):
    """Every key that tomllib finds has a line, and the key stands in that line."""
    text, names = written
    lines = key_lines(text)
    rows = text.split("\n")
    document = tomllib.loads(text)
    assert set(lines) == set(_keys(document))
    for key, line in lines.items():
        if isinstance(key[-1], str):
            assert names[key[-1]] in rows[line - 1], (key, line)


json_like = st.recursive(
    st.one_of(st.integers(-9, 9), st.booleans(), st.text(max_size=8)),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(st.text(max_size=5), below, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), json_like, max_size=5))
def test_what_tomlkit_writes(document):
    """The keys of any document that a program writes are found, whatever they are called."""
    text = tomlkit.dumps(document)
    assert set(key_lines(text)) == set(_keys(tomllib.loads(text)))
