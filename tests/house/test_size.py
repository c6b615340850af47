"""Small files, small functions."""

import ast
import itertools

from tests.house.tree import TOP, files

LONGEST_FILE = 400
LONGEST_FUNCTION = 40


def _functions(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.end_lineno - node.lineno + 1, f"{path.relative_to(TOP)}:{node.lineno} {node.name}"


def test_files_are_short():
    """No Python file has more than 400 lines."""
    long = {str(p.relative_to(TOP)): n for p in files(".py") if (n := len(p.read_text().splitlines())) > LONGEST_FILE}
    assert long == {}


def test_functions_are_short():
    """Of the functions, 95 of 100 have at most 40 lines."""
    sources = [path for path in files(".py") if path.is_relative_to(TOP / "jlabd")]
    lengths = sorted(itertools.chain.from_iterable(map(_functions, sources)), reverse=True)
    long = [function for function in lengths if function[0] > LONGEST_FUNCTION]
    assert len(long) <= len(lengths) * 0.05, long
