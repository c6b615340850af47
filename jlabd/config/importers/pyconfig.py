"""`jupyter_lab_config.py` and its like, read without running it. Pure.

Understood are assignments `c.Class.option = VALUE` where VALUE is a literal, or made of literals, of names that were
assigned before, of `os.environ` and of `os.path`. All else becomes a remark with its lines.
"""

from __future__ import annotations

import ast
import json
import posixpath
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jlabd.config.importers.findings import HOME, USER, Fact, Finding, Given, Kind, Part, Place, Remark, quoted
from jlabd.config.importers.traits import Trait
from jlabd.config.importers.traits import read as read_trait

LARGEST = 1024 * 1024
_MOST_ARGUMENTS = 20
_LARGEST_VALUE = 64 * 1024
_CODE = "it would have to be run to know what it means"
_TOO_LARGE = "its value is far too large for an option"
_NO_ENVIRONMENT = "it depends on an environment variable that is not known here"
_HASHED_THERE = "the password stands in it; run jlabctl passwd and put what it prints here as password_hash"
_NO_VALUES: Mapping[str, str] = {}


class _NotSimpleError(Exception):
    """An expression that is not evaluated; the text says why."""


def read(given: Given, environment: Mapping[str, str] = _NO_VALUES) -> Part:
    """Return what the file says for a program with this environment. Raises ImportFailedError."""
    part = Part(Kind.JUPYTER, given.at(0), "", owner=given.owner)
    if given.path.endswith(".json"):
        part.findings = list(_json(given))
    else:
        part.findings = list(_Reading(given, environment).statements())
    return part


def _parsed(given: Given) -> ast.Module:
    if len(given.text) > LARGEST:
        raise given.at(0).failed("is far too large for a Jupyter configuration")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other people's escapes
            return ast.parse(given.text)
    except SyntaxError as error:
        raise given.at(error.lineno or 1).failed(f"is not Python: {quoted(error.msg)}") from None
    except (RecursionError, MemoryError):
        raise given.at(0).failed("is nested too deeply") from None
    except ValueError as error:
        raise given.at(0).failed(f"is not Python: {quoted(str(error))}") from None


def _json(given: Given) -> Iterator[Finding]:
    try:
        document = json.loads(given.text)
    except RecursionError:
        raise given.at(0).failed("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise given.at(error.lineno).failed(f"is not JSON: {quoted(error.msg)}") from None
    except ValueError as error:
        raise given.at(0).failed(f"is not JSON: {quoted(str(error))}") from None
    for owner, options in document.items() if isinstance(document, dict) else ():
        for name, value in options.items() if isinstance(options, dict) else ():
            yield from read_trait(Trait(owner, name, value, given.at(_line_of(given.text, name))))


def _line_of(text: str, name: str) -> int:
    at = text.find(f'"{name}"')
    return text.count("\n", 0, at) + 1 if at >= 0 else 0


class _Reading:
    """One reading of a file."""

    def __init__(self, given: Given, environment: Mapping[str, str]) -> None:
        self._given = given
        self._environment = environment
        self._names: dict[str, Any] = {}

    def statements(self) -> Iterator[Finding]:
        for statement in _parsed(self._given).body:
            try:
                yield from self._statement(statement)
            except RecursionError:
                raise self._place(statement).failed("is nested too deeply") from None

    def _place(self, node: ast.stmt | ast.expr) -> Place:
        return self._given.at(node.lineno)

    def _source(self, node: ast.stmt) -> str:
        lines = self._given.text.split("\n")[node.lineno - 1 : node.end_lineno]
        more = f" (to line {node.end_lineno})" if len(lines) > 1 else ""
        return quoted(lines[0].strip()[:1000]) + more

    def _statement(self, node: ast.stmt) -> Iterator[Finding]:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(value=ast.Constant()):
                return
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="get_config"))):
                self._names.pop(name, None)
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                yield from self._assignment(node, target, value)
            case _:
                yield Remark(self._place(node), self._source(node), _CODE)

    def _assignment(self, node: ast.stmt, target: ast.expr, value: ast.expr) -> Iterator[Finding]:
        try:
            result = _bounded(self._value(value))
        except _NotSimpleError as error:
            why = _HASHED_THERE if _is_passwd(value) else str(error)
            yield Remark(
                self._place(node), quoted(_left_side(target)) if _is_passwd(value) else self._source(node), why
            )
            if isinstance(target, ast.Attribute) and target.attr == "port":
                yield Fact(("@port",), None, self._place(node))
            return
        match target:
            case ast.Name(id=name):
                self._names[name] = result
            case ast.Attribute(value=ast.Attribute(value=ast.Name(), attr=owner), attr=name):
                yield from read_trait(Trait(owner, name, result, self._place(node)))
            case ast.Subscript(
                value=ast.Attribute(value=ast.Name(id="os"), attr="environ"), slice=ast.Constant(value=str() as name)
            ):
                if isinstance(result, str):
                    yield Fact(("env", name), result, self._place(node))
            case _:
                yield Remark(self._place(node), self._source(node), _CODE)

    def _value(self, node: ast.expr) -> Any:
        """Evaluate what is simple enough. Raises _NotSimpleError, RecursionError."""
        match node:
            case ast.Constant(value=value) if value is None or isinstance(value, str | int | float):
                return value
            case ast.Name(id=name) if name in self._names:
                return self._names[name]
            case ast.List(elts=items) | ast.Tuple(elts=items):
                values = [self._value(item) for item in items]
                return values if isinstance(node, ast.List) else tuple(values)
            case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
                return {
                    k.value: self._value(v) for k, v in zip(keys, values, strict=True) if isinstance(k, ast.Constant)
                }
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _joined(self._value(left), self._value(right))
            case ast.JoinedStr(values=values):
                plain = [v.value if isinstance(v, ast.FormattedValue) and _is_plain(v) else v for v in values]
                return _together(str(_bounded(self._value(value))) for value in plain)
            case _:
                return self._looked_up(node)

    def _looked_up(self, node: ast.expr) -> Any:
        """Evaluate what asks for something: a variable of the environment, a function. Raises as `_value`."""
        match node:
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id="os"), attr="environ"), slice=key):
                return self._variable(self._value(key))
            case ast.Call(func=function, args=arguments, keywords=[]):
                return self._call(ast.unparse(function), arguments)
            case _:
                raise _NotSimpleError(_CODE)

    def _call(self, function: str, arguments: list[ast.expr]) -> Any:
        if function in {"os.environ.get", "os.getenv", "environ.get", "getenv"} and arguments:
            return self._variable(*(self._value(argument) for argument in arguments[:2]))
        values = [_bounded(self._value(argument)) for argument in arguments[:_MOST_ARGUMENTS]]
        if (
            len(arguments) == len(values)
            and (known := _FUNCTIONS.get(function))
            and values
            and all(isinstance(value, str) for value in values)
        ):
            return known(*values)
        if (
            function in {"int", "str"}
            and len(values) == 1
            and isinstance(values[0], str | int)
            and len(str(values[0])) < 20
        ):
            return _converted(function, values[0])
        raise _NotSimpleError(_CODE)

    def _variable(self, name: Any, *default: Any) -> Any:
        if name == "HOME":
            return HOME
        if name in {"USER", "LOGNAME"}:
            return USER
        if isinstance(name, str) and name in self._environment:
            return self._environment[name]
        if default:
            return default[0]
        raise _NotSimpleError(_NO_ENVIRONMENT)


def _bounded(value: Any) -> Any:
    """Return `value` if it is of a size that somebody would write. Raises _NotSimpleError."""
    size, stack = 0, [value]
    while stack:
        match stack.pop():
            case str() as text:
                size += len(text)
            case list() | tuple() as items:
                size += 1
                stack += items[:_LARGEST_VALUE]
            case dict() as table:
                size += 1
                stack += [*table.keys(), *table.values()][:_LARGEST_VALUE]
            case int() as number:
                size += number.bit_length() // 3
            case _:
                size += 8
        if size > _LARGEST_VALUE:
            raise _NotSimpleError(_TOO_LARGE)
    return value


def _together(pieces: Iterator[str]) -> str:
    """Return the pieces as one text. Raises _NotSimpleError."""
    text = ""
    for piece in pieces:
        text = _bounded(text + piece)
    return text


def _converted(function: str, value: str | int) -> str | int:
    try:
        return int(value) if function == "int" else str(value)
    except ValueError:
        raise _NotSimpleError(_CODE) from None


def _joined(left: Any, right: Any) -> Any:
    if type(left) is type(right) and isinstance(left, str | list):
        return _bounded(left + right)
    raise _NotSimpleError(_CODE)


def _is_plain(node: ast.FormattedValue) -> bool:
    return node.conversion == -1 and node.format_spec is None


def _left_side(target: ast.expr) -> str:
    return f"{ast.unparse(target)} = passwd(…)"


def _is_passwd(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("passwd")


def _expanded(path: str) -> str:
    return HOME + path[1:] if path == "~" or path.startswith("~/") else path


_FUNCTIONS: dict[str, Callable[..., str]] = {
    "os.path.expanduser": _expanded,
    "expanduser": _expanded,
    "os.path.join": posixpath.join,
    "join": posixpath.join,
    "os.path.abspath": lambda path: path,
    "os.path.realpath": lambda path: path,
    "str": lambda text: text,
    "Path": posixpath.join,
    "pathlib.Path": posixpath.join,
}
