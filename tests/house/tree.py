"""The files of the project, as the tests of the house see them."""

from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
NOT_OURS = ("__pycache__", "build", "dist")


def files(*suffixes):
    """Return the project's own files, sorted: without the hidden folders, but with .ci."""
    found = []
    for entry in TOP.iterdir():
        if entry.is_file():
            found.append(entry)
        elif entry.name == ".ci" or not entry.name.startswith("."):
            found += [path for path in entry.rglob("*") if path.is_file()]
    return sorted(path for path in found if _ours(path) and (not suffixes or path.suffix in suffixes))


def _ours(path):
    parts = path.relative_to(TOP).parts
    return not any(part in NOT_OURS or part.endswith(".egg-info") for part in parts)
