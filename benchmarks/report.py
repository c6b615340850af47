"""The figures as a page of text: tables, each with the ratio to jlabd in the same run."""

from __future__ import annotations

from typing import Any

HEAD = """# Benchmarks

What one would run instead, side by side with jlabd, on one machine: {machine}.
Each table comes from one run: that of the labs on {labs_day}, that of the programs on {programs_day}.
jlabd {jlabd}, JupyterLab {JupyterLab}, JupyterHub {JupyterHub}, supervisor {supervisor}, circus {circus}, pm2 {pm2}.
`make bench` measures all of it again and writes this page. Absolute numbers are those of the machine; in brackets is
how many times jlabd's figure the others have: above 1 they are worse than jlabd, below 1 better.

![Time to ready and memory of labs; start, respawn and memory with trivial programs](benchmarks.svg)
"""
LABS = """
## JupyterLabs

`ready`: from the command that starts them until all of them answer. `memory`: of all their processes, with what they
share counted once (PSS); what runs anyway (nginx, the hub, its proxy, the warm parent) is left out. `page`: from the
click on a lab that does not run until the page of JupyterLab, or of its login, has come through the proxy. jlabd has
started one lab before, so its warm parent is there; JupyterHub's hub and proxy run already.
"""
PROGRAMS = """
## Managers of programs

The same trivial programs for each: a shell that says that it runs and becomes a `sleep`. `start`: from the command that
starts the manager until the last program runs. `respawn`: from `kill -9` of a program until it runs again (median).
`status`: the whole command (median). `memory` and `idle`: the manager's own resident memory, and its share of a core
while nothing happens; for these jlabd's programs answer HTTP, because it asks them how they are. `reload`: from the
command until the one program that was changed runs in its new form. `stop`: from the command that stops all programs
until none of them lives.
"""

LEFT = """
## What is left, and why

- A respawn takes as long as it takes to make sure that nothing of the program's last life is left, outside its cgroup
  as well: a look at all processes, two to five milliseconds, more beside hundreds. pm2 and systemd do not look.
- Starting a hundred programs is bound by the processor: some 2 ms for what each gets of its own (cgroup, private
  folder, socket, log), 1 ms for the fork server and the child until it executes its program, on top of half a second
  for the daemon itself.
- The daemon's memory is Python's, asyncio's and above all aiohttp's (14 MB), which serves the control socket and the
  status page; each instance adds some 30 kB. Reading the configuration (pydantic: 12 MB) happens in another process.
  Its fork server is in the figure with 14 MB, half of which it shares with the daemon.
- The first start in an environment waits for its warm parent, which has to import JupyterLab once; so it takes about as
  long as a cold one.
"""


def _head(figures: dict[str, Any]) -> str:
    days = {day: figures[day] for day in ("labs_day", "programs_day")}
    return HEAD.format(**figures["about"], **days)


def written(figures: dict[str, Any]) -> str:
    """Return the page. `figures` is what `bench.measure` returns."""
    parts = [_head(figures), LABS, _labs(figures["labs"]), PROGRAMS, _programs(figures["programs"])]
    remarks = sorted({f"- {each['contender']}: {text}" for each in figures["programs"] for text in each["remarks"]})
    if remarks:
        parts += ["\n", "\n".join(remarks), "\n"]
    return "".join([*parts, LEFT])


def _labs(rows: list[dict[str, Any]]) -> str:
    columns = {"ready": ("ready_s", _time), "memory": ("pss_bytes", _size), "page": ("page_s", _time)}
    return _table("labs", rows, columns)


def _programs(rows: list[dict[str, Any]]) -> str:
    columns = {
        "start": ("start_s", _time),
        "respawn": ("respawn_s", _time),
        "status": ("status_s", _time),
        "memory": ("rss_bytes", _size),
        "idle": ("idle_share", _share),
        "reload": ("reload_s", _time),
        "stop": ("stop_s", _time),
    }
    return _table("programs", rows, columns)


def _table(what: str, rows: list[dict[str, Any]], columns: dict[str, Any]) -> str:
    lines = [f"\n| {what} | | {' | '.join(columns)} |", f"|---:|---|{'---:|' * len(columns)}"]
    for row in rows:
        ours = next(each for each in rows if each["count"] == row["count"] and each["contender"] == "jlabd")
        cells = [_cell(row[key], ours[key], say, is_ours=row is ours) for key, say in columns.values()]
        lines.append(f"| {row['count']} | {row['contender']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None, ours: float | None, say: Any, *, is_ours: bool) -> str:
    if value is None:
        return "–"
    if is_ours or not ours:
        return str(say(value))
    ratio = value / ours
    return f"{say(value)} ({ratio:.2g}×)" if ratio < 99.5 else f"{say(value)} ({ratio:.0f}×)"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _size(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def _share(share: float) -> str:
    return f"{share:.2%}"
