"""A page of docs/ whose files, commands and outputs are tested: what stands in its fenced blocks.

```ini title=/etc/x.ini    a file
```sh run=NAME             commands
```toml output=NAME        what they print
"""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```\w+ (title|run|output)=(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Guide:
    """The blocks of one page, by name."""

    def __init__(self, page):
        self.page = page
        self.text = (DOCS / page).read_text()
        blocks = _BLOCK.findall(self.text)
        self.files = {name: text for kind, name, text in blocks if kind == "title"}
        self.commands = {name: text for kind, name, text in blocks if kind == "run"}
        self.outputs = {name: text for kind, name, text in blocks if kind == "output"}

    def unmarked(self):
        """Return the fenced blocks that are none of these, and no plain text either."""
        fences = re.findall(r"^```(\w.*)$", self.text, re.MULTILINE)
        return [fence for fence in fences if fence != "text" and not re.fullmatch(r"\w+ (title|run|output)=\S+", fence)]


def placed(text, places):
    """Return `text` with each path in `places` where it is to be in a test."""
    for path, place in places.items():
        text = text.replace(path, str(place))
    return text
