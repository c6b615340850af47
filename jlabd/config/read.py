"""The doorway: reads the configuration file and what it includes, all of it or with every reason why not.

A mistake in the main file makes the whole configuration unusable. A mistake in an included file is that file's alone:
its instances are absent, the others are there.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from jlabd.config.accounts import Accounts, SystemAccounts, own_name
from jlabd.config.daemon import between, build_daemon, build_nginx
from jlabd.config.drafts import Draft, Layer, inherit
from jlabd.config.instances import Identity, build
from jlabd.config.loaded import Loaded
from jlabd.config.look import look
from jlabd.config.model import InstanceTable
from jlabd.config.problems import ConfigError, Key, Problem
from jlabd.config.sources import Raw, Source, parse_source, read_source
from jlabd.config.templates import expand, sample
from jlabd.config.together import Built, Ports, shared_places, shared_ports
from jlabd.config.trust import distrusted
from jlabd.config.validate import unknown_key, validate
from jlabd.config.words import instance_name
from jlabd.spec import Configuration, DaemonSpec, NginxSpec

_MAIN_TABLES = ["daemon", "nginx", "defaults", "instance", "template"]
_INCLUDED_TABLES = ["instance", "template"]
_NO_TEXTS: Mapping[Path, bytes] = MappingProxyType({})


def load(path: Path, *, accounts: Accounts | None = None, uid: int | None = None, with_files: bool = False) -> Loaded:
    """Read the file at `path` and what it includes, for a daemon of user `uid` (by default of this process).

    `with_files` also judges the files that it names for nginx (see `look`), which may take seconds.
    Raises ConfigError with all problems, also those of included files, if one of them is in the main file.
    Reads files and accounts and may thus block for a while.
    """
    loaded = _reading(path, accounts, uid, with_files=with_files).read()
    if any(problem.file == str(path) for problem in loaded.problems):
        raise ConfigError(loaded.problems)
    return loaded


def check(
    path: Path,
    *,
    accounts: Accounts | None = None,
    uid: int | None = None,
    texts: Mapping[Path, bytes] = _NO_TEXTS,
    with_files: bool = False,
) -> list[Problem]:
    """Return everything that is wrong with the file at `path` and what it includes; arguments as for `load`.

    `texts` maps resolved paths of files to what is to be read instead of their content.
    """
    return list(_reading(path, accounts, uid, texts, with_files=with_files).read().problems)


def own_tables(path: Path, *, uid: int | None = None) -> dict[str, tuple[str, int | None]]:
    """Return file and line of each `[instance.NAME]` of the file at `path` and what it includes; the first one counts.

    Whether they are in order does not matter, only whether the files can be read. Raises ConfigError if the main file
    cannot.
    """
    reading = _reading(path, None, uid)
    sources = reading.sources()
    if not sources:
        raise ConfigError(reading.problems)
    found: dict[str, tuple[str, int | None]] = {}
    for source in sources:
        for name in _table(source, "instance"):
            found.setdefault(name, (source.file, source.line(("instance", name))))
    return found


def _reading(
    path: Path,
    accounts: Accounts | None,
    uid: int | None,
    texts: Mapping[Path, bytes] = _NO_TEXTS,
    *,
    with_files: bool = False,
) -> _Reading:
    return _Reading(path, accounts or SystemAccounts(), os.geteuid() if uid is None else uid, texts, with_files)


@dataclass(slots=True)
class _Reading:
    """One reading of a main file; `problems` grows."""

    path: Path
    accounts: Accounts
    uid: int
    texts: Mapping[Path, bytes]
    with_files: bool
    problems: list[Problem] = field(default_factory=list)

    def read(self) -> Loaded:
        """Read everything. Problems of the main file are among those of the result."""
        main = self._source(self.path, included=False)
        if main is None:
            return self._loaded(Configuration(str(self.path)), [])
        self._judge_tables(main, _MAIN_TABLES)
        daemon, include, findings = build_daemon(_table(main, "daemon"))
        nginx, nginx_findings = build_nginx(_table(main, "nginx"))
        ports = Ports()
        findings = [*findings, *nginx_findings, *between(daemon, nginx, ports)]
        self.problems += [main.problem(key, message) for key, message in findings]
        sources = [main, *self._included(main, include)]
        instances = self._instances(sources, self._defaults(main), daemon, nginx)
        self.problems += shared_ports(instances, ports)
        if nginx.enabled:
            self.problems += shared_places(instances, nginx)
        self.problems += distrusted(instances, self.uid)
        if self.with_files:
            self.problems += look(main, nginx, instances, self.uid)
        return self._loaded(Configuration(main.file, daemon, nginx), instances)

    def sources(self) -> list[Source]:
        """Return the main file and those that it includes, as far as they can be read."""
        main = self._source(self.path, included=False)
        if main is None:
            return []
        _, include, _ = build_daemon(_table(main, "daemon"))
        return [main, *self._included(main, include)]

    def _loaded(self, configuration: Configuration, instances: list[Built]) -> Loaded:
        """Return the result: what stands in files without problems."""
        broken = frozenset(problem.file for problem in self.problems) - {configuration.path}
        good = [(draft, spec) for draft, spec in instances if draft.file not in broken]
        whole = Configuration(
            configuration.path,
            configuration.daemon,
            configuration.nginx,
            MappingProxyType({spec.name: spec for _, spec in good}),
            MappingProxyType({spec.name: draft.file for draft, spec in good}),
        )
        return Loaded(whole, tuple(sorted(dict.fromkeys(self.problems), key=self._place)), broken)

    def _place(self, problem: Problem) -> tuple[bool, str, int]:
        """Return what problems are sorted by: the main file first, then from top to bottom."""
        return problem.file != str(self.path), problem.file, problem.line or 0

    def _source(self, path: Path, *, included: bool) -> Source | None:
        """Return the file at `path`, or None after noting why it cannot be used."""
        try:
            data = self.texts.get(Path(os.path.realpath(path))) if self.texts else None
            if data is not None:
                return parse_source(path, data)
            return read_source(path, uid=self.uid, included=included)
        except ConfigError as error:
            self.problems += error.problems
            return None

    def _included(self, main: Source, pattern: str) -> Iterator[Source]:
        try:
            paths = _matching(pattern)
        except OSError as error:
            message = f"the folder of {pattern!r} cannot be read: {error.strerror or error}"
            self.problems.append(main.problem(("daemon", "include"), message))
            return
        for path in paths:
            if not _same_file(path, self.path) and (source := self._source(path, included=True)):
                self._judge_tables(source, _INCLUDED_TABLES)
                yield source

    def _judge_tables(self, source: Source, known: list[str]) -> None:
        """Note top-level keys that do not belong into `source`, or are no tables."""
        for key, value in source.tables.items():
            if key in _MAIN_TABLES and key not in known:
                message = "does not belong into an included file, which has [instance.*] and [template.*] only"
            elif key not in known:
                message = unknown_key(key, known)
            elif not isinstance(value, dict):
                message = f"must be a table, write [{key}{'.NAME' if key in _INCLUDED_TABLES else ''}]"
            else:
                continue
            self.problems.append(source.problem((key,), message))

    def _defaults(self, main: Source) -> Layer:
        """Return what instances inherit, without what is wrong in it."""
        raw = _table(main, "defaults")
        table, findings = validate(InstanceTable, sample(raw))
        if table.password_hash and table.password_hash_file:
            findings.append((("password_hash_file",), "cannot be used together with password_hash, keep one of them"))
        self.problems += [main.problem(("defaults", *key), message) for key, message in findings]
        wrong = {key[0] for key, _ in findings}
        return Layer(main, ("defaults",), {key: value for key, value in raw.items() if key not in wrong})

    def _instances(self, sources: list[Source], defaults: Layer, daemon: DaemonSpec, nginx: NginxSpec) -> list[Built]:
        who = Identity(self.uid, own_name(self.uid))
        built = []
        for draft in self._drafts(sources, defaults):
            spec, problems = build(draft, daemon, nginx, who)
            self.problems += problems
            built.append((draft, spec))
        order = {source.file: n for n, source in enumerate(sources)}
        return sorted(built, key=lambda one: order[one[0].file])

    def _drafts(self, sources: list[Source], defaults: Layer) -> Iterator[Draft]:
        """Yield every instance, those with a table of their own before those of templates."""
        explicit: dict[str, Layer] = {}
        for source in sources:
            for layer, name in self._layers(source, "instance"):
                if (first := explicit.setdefault(name, layer)) is layer:
                    yield Draft(name, inherit(defaults.values, layer.values), layer, defaults)
                else:
                    self.problems.append(source.problem(layer.at, f"is defined already in {_place(first)}; keep one"))
        expanded: dict[str, Layer] = {}
        for source in sources:
            for layer, _ in self._layers(source, "template"):
                expansion = expand(layer, defaults, self.accounts)
                self.problems += expansion.problems
                yield from self._new(expansion.drafts, explicit, expanded)

    def _new(
        self, drafts: Iterable[Draft], explicit: Mapping[str, Layer], expanded: dict[str, Layer]
    ) -> Iterator[Draft]:
        """Yield those instances of a template that are not defined elsewhere."""
        for draft in drafts:
            if draft.name in explicit:
                continue
            if (first := expanded.setdefault(draft.name, draft.own)) is not draft.own:
                message = (
                    f"makes an instance {draft.name} as {_place(first)} does; write [instance.{draft.name}] instead"
                )
                self.problems.append(draft.problem((), message))
            elif self._judge_name(draft.own.source, draft.own.at, draft.name):
                yield draft

    def _layers(self, source: Source, kind: str) -> Iterator[tuple[Layer, str]]:
        """Yield the tables `[kind.NAME]` of `source` with their names."""
        for name, values in _table(source, kind).items():
            at = (kind, name)
            if not isinstance(values, dict):
                message = f"is not a table, write [{kind}.NAME] and below it the keys"
                self.problems.append(source.problem(at, message))
            else:
                self._judge_name(source, at, name)
                yield Layer(source, at, values), name

    def _judge_name(self, source: Source, at: Key, name: str) -> bool:
        try:
            instance_name(name)
        except ValueError as error:
            self.problems.append(source.problem(at, str(error)))
            return False
        return True


def _table(source: Source, name: str) -> Raw:
    """Return the table `name` of `source`, empty if it is not there or no table."""
    value = source.tables.get(name)
    return value if isinstance(value, dict) else {}


def _place(layer: Layer) -> str:
    return f"{layer.source.file}:{layer.source.line(layer.at)}"


def _matching(pattern: str) -> list[Path]:
    """Return the files that match `pattern`, sorted; a name without wildcards is there in any case. Raises OSError."""
    if not glob.has_magic(pattern):
        return [Path(pattern)] if pattern else []
    folder = Path(pattern).parent
    if not glob.has_magic(str(folder)) and folder.is_dir():
        os.scandir(folder).close()  # glob says nothing about a folder that cannot be read
    return [Path(name) for name in sorted(glob.glob(pattern))]  # noqa: PTH207  (an absolute pattern; Path.glob takes none)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
