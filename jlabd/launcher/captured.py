"""What modules made of the environment when they were imported, and how to have it made anew in a forked lab.

A warm parent imports JupyterLab with a home, a user name, a working directory and a PATH that exist for that purpose
only. Whatever holds one of them afterwards was captured at import and would be wrong in every lab. `unexplained` looks
through all objects that Python knows; what `renew` knows how to mend is explained, anything else makes the environment
unfit: better a lab that starts cold than one that writes into somebody else's home.

Runs under the Python of somebody else's environment: 3.8 or newer, standard library only.
"""

import contextlib
import functools
import gc
import importlib
import os
import pathlib
import site
import sys
import types
from typing import Any, Callable, Iterator, List, Sequence, Tuple

Hit = Tuple[Any, Any]
"""The object that holds the captured text, and the text."""

Capture = Tuple[List[Any], Callable[[], Any]]
"""The objects that hold something that is known to be captured, and what has it made anew."""


def _captures() -> "Iterator[Capture]":
    """Yield all that is known to be captured by modules that are imported."""
    yield from _environments()
    yield from _paths()
    yield from _lab_traits()
    session = _module("jupyter_client.session")
    if session is not None:
        yield _trait(session.Session, "username", lambda: os.environ.get("USER", "username"))
    ids = _module("jupyter_server_fileid.manager")
    if ids is not None:
        yield from _file_ids(ids)
    for name in RELOADED:
        module = _module(name)
        if module is not None:
            yield _globals(module), functools.partial(importlib.reload, module)


RELOADED = ("send2trash.plat_other", "jedi.settings", "parso.cache")
"""Small modules that keep what they captured in their own globals: they are executed again."""


def _globals(module: Any) -> List[Any]:
    """Return the globals of a module, and the insides of the paths among them."""
    paths = [value for value in vars(module).values() if isinstance(value, pathlib.PurePath)]
    inside = [part for path in paths for part in gc.get_referents(path) if isinstance(part, list)]
    return [vars(module), *paths, *inside]


def _module(name: str) -> Any:
    """Return the module if it is imported."""
    return sys.modules.get(name)


def _environments() -> "Iterator[Capture]":
    """Yield copies of the environment, and the environment itself, which is new already."""
    yield [os.environ._data], lambda: None  # type: ignore[attr-defined]  # noqa: SLF001
    handlers = _module("wsgiref.handlers")
    if handlers is not None:
        base = handlers.BaseHandler
        yield [base.os_environ], lambda: setattr(base, "os_environ", handlers.read_environ())


def _paths() -> "Iterator[Capture]":
    """Yield what Python itself computed from the home and the working directory."""

    def renew_user_site() -> None:
        site.USER_BASE = site.USER_SITE = None
        site.getusersitepackages()

    yield [vars(site)], renew_user_site
    variables = getattr(_module("sysconfig"), "_CONFIG_VARS", None)
    if variables:
        yield [variables], lambda: variables.update({"userbase": site.getuserbase()} if "userbase" in variables else {})
    for name, attribute in (("multiprocessing.process", "ORIGINAL_DIR"), ("rich", "_IMPORT_CWD")):
        module = _module(name)
        if module is not None:
            yield [vars(module)], functools.partial(_set_folder, module, attribute)


def _set_folder(module: Any, attribute: str) -> None:
    setattr(module, attribute, os.getcwd())


def _lab_traits() -> "Iterator[Capture]":
    labapp = _module("jupyterlab.labapp")
    for trait, function in (("user_settings_dir", "get_user_settings_dir"), ("workspaces_dir", "get_workspaces_dir")):
        if hasattr(labapp, function) and hasattr(labapp, "LabApp"):
            yield _trait(labapp.LabApp, trait, getattr(labapp, function))


def _file_ids(manager: Any) -> "Iterator[Capture]":
    def path() -> str:
        from jupyter_core.paths import jupyter_data_dir

        return os.path.join(jupyter_data_dir(), "file_id_manager.db")

    if hasattr(manager, "default_db_path"):
        yield [vars(manager)], lambda: setattr(manager, "default_db_path", path())
    base = getattr(manager, "BaseFileIdManager", None)
    if base is not None:
        yield _trait(base, "db_path", path)


def _trait(cls: Any, name: str, compute: Callable[[], str]) -> Capture:
    """Return the default of a trait: traitlets keeps it in the trait, and in one table for each class."""
    trait = cls.class_traits().get(name)
    tables = [getattr(member, "_static_immutable_initial_values", {}) for member in _family(cls)]

    def renew_default() -> None:
        value = compute()
        old, trait.default_value = trait.default_value, value
        for table in tables:
            if table.get(name) == old:
                table[name] = value

    return ([], lambda: None) if trait is None else ([trait, vars(trait), *tables], renew_default)


def _family(cls: Any) -> "Iterator[Any]":
    yield cls
    for subclass in cls.__subclasses__():
        yield from _family(subclass)


def renew() -> None:
    """Have everything that is known to be captured made anew from the present environment, user and folder."""
    for _, make_anew in list(_captures()):
        make_anew()


def _texts_in(value: Any) -> "Iterator[Any]":
    """Yield the texts that `value` is, or holds if the garbage collector does not look into it itself."""
    kind = type(value)
    if kind is str or kind is bytes:
        yield value
    elif (kind is dict or kind is tuple) and not gc.is_tracked(value):
        for part in [*value, *value.values()] if kind is dict else value:
            if type(part) in (str, bytes):
                yield part


def _find(canaries: Sequence[str]) -> "Iterator[Hit]":
    """Yield each object that holds a text with one of `canaries` in it."""
    wanted = [(text, os.fsencode(text)) for text in canaries]
    objects = gc.get_objects()
    own = {id(objects), id(wanted), id(canaries), *map(id, wanted)}
    for holder in objects:
        # What modules written in C refer to may be dead already: to look at it would damage them (_asyncio in 3.12).
        if id(holder) in own or type(holder) in (types.FrameType, types.ModuleType):
            continue
        for value in gc.get_referents(holder):
            for text in () if id(value) in own else _texts_in(value):
                if any((plain if type(text) is str else coded) in text for plain, coded in wanted):
                    yield (value if type(value) in (dict, tuple) else holder), text


def _name(holder: Any) -> str:
    """Return where people find `holder`, empty if that is too far to look."""
    modules = {id(vars(module)): name for name, module in list(sys.modules.items()) if hasattr(module, "__dict__")}
    waiting = [holder]
    for steps in range(FARTHEST):
        if steps >= len(waiting):
            break
        here = waiting[steps]
        if id(here) in modules:
            return f"module {modules[id(here)]}"
        if isinstance(here, type):
            return f"class {here.__module__}.{here.__qualname__}"
        owners = [owner for owner in gc.get_referrers(here) if isinstance(owner, (dict, list, tuple, type))]
        waiting += [owner for owner in owners if owner is not waiting and owner is not owners]
    return ""


FARTHEST = 40
"""Objects that are looked at on the way from a holder to where people know it; each takes milliseconds."""


def unexplained(canaries: Sequence[str]) -> str:
    """Return where something was captured that `renew` does not know, empty if nowhere."""
    gc.collect()
    explained = {id(holder) for holders, _ in list(_captures()) for holder in holders}
    for holder, text in _find(canaries):
        if id(holder) not in explained:
            return f"{_name(holder) or type(holder).__qualname__} keeps {os.fsdecode(text)!r}"
    return ""


def renew_chance() -> None:
    """Have random numbers and keys that were drawn at import drawn anew: labs must not share them.

    `random` and `ssl` see to themselves after a fork.
    """
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None  # type: ignore[attr-defined]  # computed from the environment
        tempfile._name_sequence = None  # type: ignore[attr-defined]  # noqa: SLF001
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        current = process.current_process()  # type: ignore[attr-defined]
        current.authkey = os.urandom(32)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        with contextlib.suppress(AttributeError):
            numpy.seed()  # type: ignore[attr-defined]
