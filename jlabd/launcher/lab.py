"""Run JupyterLab on the listening socket that jlabd hands over.

    VENV/bin/python lab.py --settings FOLDER/settings.json [JupyterLab's own arguments]

Descriptor 3 is the listening socket; descriptor 4, if it is a pipe, takes one sentence that says why JupyterLab cannot
run, and the exit status is 78 then. What jlabd settles (password, token, address, …) comes from the settings file and
stands above every other configuration; the user's own Jupyter configuration is loaded all the same.

Runs under the Python of somebody else's environment: 3.8 or newer, and an older one must still get as far as saying so,
so there is nothing here that Python 3.6 could not parse.
"""

import os
import sys

if os.path.dirname(os.path.abspath(__file__)) in sys.path:  # the script's folder is no place to import from
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))

import asyncio
import contextlib
import copy
import hashlib
import importlib.util
import json
import shutil
import socket
import stat
import tempfile
import traceback
from typing import Any, Dict, List, NoReturn, Sequence, Set

LISTEN_FD = 3
NOTIFY_FD = 4
EX_CONFIG = 78
OLDEST_PYTHON = (3, 8)
OLDEST_LAB = 3
DRAIN_S = 2.0
DRAIN_STEP_S = 0.02
SOCKET_PATH_MAX = 107
KERNEL_SOCKET_NAME = "/kernel-01234567-89ab-cdef-0123-456789abcdef-ipc-5"


class Refused(Exception):  # noqa: N818  (its text is a sentence for the administrator, and ends the launcher)
    """JupyterLab cannot run, and trying again without a change is useless."""


def refuse(sentence: str) -> NoReturn:
    """Tell the daemon and the log why there is no JupyterLab, and end with EX_CONFIG."""
    print(f"jlabd: {sentence}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(NOTIFY_FD).st_mode):
            os.write(NOTIFY_FD, " ".join(sentence.split()).encode("utf-8", "replace")[:4000])
    sys.exit(EX_CONFIG)


def say(sentence: str) -> None:
    """Write one line to the instance's log."""
    print(f"jlabd: {sentence}", file=sys.stderr, flush=True)


def check_python() -> None:
    """Raise Refused if this Python is too old for what follows."""
    if sys.version_info < OLDEST_PYTHON:
        version = ".".join(str(part) for part in sys.version_info[:3])
        raise Refused(
            f"The Python in {sys.prefix} is {version}, and 3.8 is the oldest that works: "
            "make that environment anew with a newer Python"
        )


def read_settings(path: str) -> Dict[str, Any]:
    """Return what the daemon wrote to `path` for this incarnation. Raises Refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, encoding="utf-8") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o077:
                raise Refused(f"{path} is not a private file of this user: only jlabd may start this program")
            settings = json.load(file)
    except (OSError, ValueError) as error:
        raise Refused(f"Cannot read the settings {path}: {error}") from error
    if not isinstance(settings, dict):
        raise Refused(f"The settings {path} are not of this version of jlabd")
    return settings


def listening_socket() -> socket.socket:
    """Return the socket on descriptor 3, for this process alone. Raises Refused."""
    try:
        listener = socket.socket(fileno=LISTEN_FD)
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listening = 0
    if not listening:
        raise Refused("Descriptor 3 is not a listening socket: only jlabd may start this program")
    listener.set_inheritable(False)
    listener.setblocking(False)
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return listener


def make_private(path: str) -> None:
    """Make `path` an empty folder of this user alone; what an earlier run left in it goes. Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
    os.chmod(path, 0o700)


def prepare_runtime_folder(folder: str) -> None:
    """Make the folder of the kernels' connection files and sockets, short enough for a socket's path."""
    runtime = os.path.join(folder, "rt")
    if os.environ.get("JUPYTER_RUNTIME_DIR", runtime) != runtime:
        return  # the operator chose another one
    if len(os.fsencode(runtime + KERNEL_SOCKET_NAME)) > SOCKET_PATH_MAX:
        # The same for all incarnations, so that what a killed one leaves is used again and does not pile up.
        instance = hashlib.sha256(os.fsencode(folder.rpartition(".")[0])).hexdigest()[:12]
        runtime = f"/tmp/jlabd-{os.geteuid()}-{instance}"  # noqa: S108  (make_private takes no folder but our own)
    try:
        make_private(runtime)
    except FileExistsError:  # somebody else took the name
        runtime = tempfile.mkdtemp(prefix="jlabd-", dir="/tmp")
    os.environ["JUPYTER_RUNTIME_DIR"] = runtime


def usable(path: str) -> bool:
    """Whether files can be made in the folder `path`, which need not exist yet."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)


def find_writable_folders(folder: str) -> None:
    """Give Jupyter folders below `folder` in place of those in the home that cannot be written."""
    home = os.path.expanduser("~")
    moved = []
    for variable, default in (
        ("JUPYTER_DATA_DIR", os.path.join(home, ".local", "share", "jupyter")),
        ("JUPYTER_CONFIG_DIR", os.path.join(home, ".jupyter")),
        ("IPYTHONDIR", os.path.join(home, ".ipython")),
    ):
        if variable not in os.environ and not usable(default):
            os.environ[variable] = os.path.join(folder, variable.lower())
            moved.append(default)
    if os.path.join(home, ".jupyter") in moved:
        # What can be read there counts all the same.
        os.environ.setdefault("JUPYTER_CONFIG_PATH", os.path.join(home, ".jupyter"))
    if moved:
        say(f"cannot write {', '.join(moved)}: what Jupyter keeps there is lost when the lab stops")


def explain_import(error: BaseException) -> str:
    """Return the sentence for a JupyterLab that cannot be imported."""
    pip = os.path.join(sys.prefix, "bin", "pip")
    if isinstance(error, ModuleNotFoundError) and error.name == "jupyterlab":
        return f"JupyterLab is not installed in {sys.prefix}: run {pip} install jupyterlab"
    what = f"{type(error).__name__}: {error}"
    return (
        f"JupyterLab in {sys.prefix} is broken ({what}): run {pip} install --upgrade --force-reinstall jupyterlab, "
        "and see the log"
    )


def import_lab() -> Any:
    """Return JupyterLab's application class. Raises Refused."""
    # jsonschema would spend two seconds on compiling its grammar, for checks of IRI formats that nobody asked for.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  (None is how an import is made to fail)
    try:
        import jupyterlab
        from jupyterlab.labapp import LabApp
    except (MemoryError, OSError):
        raise  # may pass
    except Exception as error:  # a broken package may raise anything
        traceback.print_exc()
        raise Refused(explain_import(error)) from error
    version = str(getattr(jupyterlab, "__version__", "0"))
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST_LAB:
        raise Refused(
            f"JupyterLab in {sys.prefix} is {version}, and {OLDEST_LAB} is the oldest that works: "
            f"run {os.path.join(sys.prefix, 'bin', 'pip')} install --upgrade jupyterlab"
        )
    return LabApp


def load_config_file(path: str) -> Any:
    """Return the configuration in the operator's file `path`. Raises Refused."""
    from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

    loader = JSONFileConfigLoader if path.endswith(".json") else PyFileConfigLoader
    try:
        with open(path, "rb"):
            pass  # the loaders would hide why it cannot be read
        return loader(os.path.basename(path), path=os.path.dirname(path)).load_config()
    except OSError as error:
        raise Refused(f"config_files: cannot read {path}: {error.strerror}") from error
    except Exception as error:  # the file is a program
        traceback.print_exc()
        raise Refused(f"config_files: {path} fails: {type(error).__name__}: {error}") from error


def pinned_traits(settings: Dict[str, Any], major: int) -> Any:
    """Return the configuration that stands above all other; `major` is jupyter_server's version."""
    from traitlets.config import Config

    pinned = Config(copy.deepcopy(settings["traits"]))
    pinned.ServerApp.cookie_secret = bytes.fromhex(settings["cookie_secret"])
    password = settings["password"]
    if major < 2:
        pinned.ServerApp.token = settings["token"]
        pinned.ServerApp.allow_password_change = False
        if password:
            pinned.ServerApp.password = password
        return pinned
    # The subclass too: what a user configures for it would win otherwise.
    pinned.IdentityProvider.token = pinned.PasswordIdentityProvider.token = settings["token"]
    pinned.PasswordIdentityProvider.allow_password_change = False
    if password:
        pinned.PasswordIdentityProvider.hashed_password = password
    return pinned


def pin(server_class: Any, pinned: Any, configs: List[Any]) -> None:
    """Make every server of `server_class` load `configs` after the user's own files, and `pinned` above everything."""
    plain_update, plain_load = server_class.update_config, server_class.load_config_file

    def update_config(self: Any, config: Any) -> None:
        merged = copy.deepcopy(config)
        merged.merge(copy.deepcopy(pinned))
        plain_update(self, merged)

    def load_config_files(self: Any, *args: Any, **kwargs: Any) -> None:
        plain_load(self, *args, **kwargs)
        for config in configs:
            self.update_config(config)
        self.update_config(self.cli_config)

    server_class.update_config, server_class.load_config_file = update_config, load_config_files


def serve_on(server_class: Any, listener: socket.socket, hostnames: Sequence[str]) -> None:
    """Make servers of `server_class` accept on `listener` instead of an address of their own, for these host names."""
    plain_init_webapp = server_class.init_webapp

    def adopt(self: Any) -> bool:
        self.http_server.add_socket(listener)
        return True

    def init_webapp(self: Any) -> None:
        self.local_hostnames = list(dict.fromkeys([*hostnames, *self.local_hostnames]))
        plain_init_webapp(self)

    server_class._bind_http_server_unix = server_class._bind_http_server_tcp = adopt  # noqa: SLF001  (no public way)
    server_class._find_http_port = lambda _self: None  # noqa: SLF001  (would try to bind the port that is ours already)
    server_class.init_webapp = init_webapp


def count_requests(handler_class: Any) -> Set[Any]:
    """Return the set of the handlers (of `handler_class`) that owe an answer, from now on; websockets owe none."""
    plain_execute = handler_class._execute  # noqa: SLF001  (no public way)
    answering: Set[Any] = set()

    async def execute(self: Any, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, "ws_connection"):
            answering.add(self)
        try:
            await plain_execute(self, *args, **kwargs)
        finally:
            answering.discard(self)

    handler_class._execute = execute  # noqa: SLF001
    return answering


async def drain(answering: Set[Any]) -> None:
    """Return when all requests that were accepted are answered, or it takes too long."""
    for _ in range(round(DRAIN_S / DRAIN_STEP_S)):
        await asyncio.sleep(DRAIN_STEP_S)  # also once at least, for those that were accepted but not read
        if not answering:
            return


async def cancel_the_rest() -> None:
    """End all other tasks, as asyncio.run does: a thread that works for one of them would keep the process for ever."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=DRAIN_S)


def end_in_order(server_class: Any, handler_class: Any) -> None:
    """Make servers of `server_class` answer what they have accepted before they end, and then end indeed."""
    plain_cleanup = server_class._cleanup  # noqa: SLF001  (no public way)
    answering = count_requests(handler_class)

    async def cleanup(self: Any) -> None:
        await drain(answering)
        await plain_cleanup(self)
        await cancel_the_rest()

    server_class._cleanup = cleanup  # noqa: SLF001


def note_activity(major: int) -> None:
    """Have jupyter_server, whose version begins with `major`, know and say what its kernels and terminals do."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "activity.py")
    spec = importlib.util.spec_from_file_location("jlabd_activity", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    module.list_kernels_at_any_time()
    module.hear_the_first_cell()
    if major == 1:
        module.note_terminal_output()
        module.note_what_kernels_compute()


def take_over(settings: Dict[str, Any], listener: socket.socket) -> None:
    """Prepare jupyter_server for the settings and the socket. Raises Refused."""
    import jupyter_server
    from jupyter_server.serverapp import ServerApp
    from tornado.web import RequestHandler

    if not hasattr(ServerApp, "_bind_http_server_unix"):
        raise Refused(
            f"jupyter_server {jupyter_server.__version__} in {sys.prefix} cannot serve on a socket that it is given: "
            f"run {os.path.join(sys.prefix, 'bin', 'pip')} install --upgrade jupyter_server"
        )
    configs = [load_config_file(path) for path in settings["config_files"]]
    pin(ServerApp, pinned_traits(settings, jupyter_server.version_info[0]), configs)
    serve_on(ServerApp, listener, settings["hostnames"])
    end_in_order(ServerApp, RequestHandler)
    note_activity(jupyter_server.version_info[0])


def prepare(settings_path: str) -> Any:
    """Return JupyterLab's application class, ready to be launched. Raises Refused."""
    check_python()
    settings = read_settings(settings_path)
    listener = listening_socket()
    folder = os.path.dirname(os.path.abspath(settings_path))
    prepare_runtime_folder(folder)
    find_writable_folders(folder)
    application = import_lab()
    take_over(settings, listener)
    return application


def close_notify_pipe() -> None:
    """Nothing is left to be said on it."""
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(NOTIFY_FD).st_mode):
            os.close(NOTIFY_FD)


def name_process(name: str) -> None:
    """Show `name` in ps and top instead of "python"."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(name)


def main(argv: List[str]) -> None:
    """Become the JupyterLab that the settings describe."""
    if len(argv) < 3 or argv[1] != "--settings":
        refuse("lab.py is started by jlabd: lab.py --settings FILE [arguments of JupyterLab]")
    try:
        application = prepare(argv[2])
    except Refused as refusal:
        refuse(str(refusal))
    close_notify_pipe()
    name_process("jupyter-lab")
    sys.argv = ["jupyter-lab", *argv[3:]]
    application.launch_instance(sys.argv[1:])


if __name__ == "__main__":
    main(sys.argv)
