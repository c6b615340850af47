"""Files as people have them, imported, and the result read again."""

import tomllib
from pathlib import Path

from jlabd.config.importers import __main__ as command
from jlabd.config.importers import gather
from jlabd.config.importers.findings import Machine
from jlabd.config.read import check

HASH = "argon2:$argon2id$v=19$m=10240,t=10,p=8$1188xGgDIDs49qtL/Hh/Cg$su7QTqBgJSHfkJ5XpTmmiw"


class Result:
    """What was printed: `table` is what it says, `comments` one line for each remark and its reason."""

    def __init__(self, text):
        self.text = text
        self.table = tomllib.loads(text)
        self.comments = []
        before = 0
        for line in (line[1:] for line in text.splitlines() if line.startswith("#")):
            indent = len(line) - len(line.lstrip())
            if indent == 3 or indent == before == 5:  # what was too long for the line before
                self.comments[-1] += " " + line.strip()
            else:
                self.comments.append(line.strip())
            before = indent

    @property
    def only(self):
        """The one instance that there is."""
        (instance,) = self.table["instance"].values()
        return instance

    def why(self, what):
        """Return the reason that is given for not carrying `what` over."""
        found = [n for n, line in enumerate(self.comments) if what in line]
        assert found, f"nothing is said of {what!r} in\n{self.text}"
        return self.comments[found[0] + 1].strip()


class Files:
    """A folder of files; `{folder}` in a text is that folder."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        homes = {"alice": "/home/alice", "bob": "/home/bob", "carol": f"{folder}/carol", "root": "/root"}
        machine = Machine(lambda user: homes.get(user, ""), frozenset({"own.example.com"}))
        monkeypatch.setattr(gather, "machine", lambda: machine)
        # What owns the tests' files says nothing about labs.
        monkeypatch.setattr(gather, "_owner", lambda uid: "")

    def write(self, name, text):
        path = Path(self.folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.replace("{folder}", str(self.folder)).encode() if isinstance(text, str) else text
        path.write_bytes(data)
        return str(path)

    def imported(self, files, *more, name=""):
        """Write `files` (name to text), import them and `more` paths, and check the result as jlabd does."""
        result = Result(command.imported([*(self.write(*pair) for pair in files.items()), *more], name))
        path = Path(self.folder, "jlabd.toml")
        path.write_text('daemon.include = ""\n' + result.text)
        path.chmod(0o644)
        assert [str(problem) for problem in check(path, uid=0)] == []
        return result

    def one(self, name, text):
        return self.imported({name: text})
