"""The warm parent of one environment: import JupyterLab once, then fork a lab whenever the daemon asks for one.

    VENV/bin/python -I -S warm.py --daemon PID --trust root|root-whole|own

Descriptor 4 is a SOCK_SEQPACKET socket to the daemon. The first message goes out with a file: {"reason": why there will
be no labs, or nothing, "folders": where something was imported from, "variables": what the import read of the
environment}. From then on each message that comes in is the number of a wish, with one descriptor, a socket for a lab;
it is answered when the lab exists: the number and 0, or the error number of the fork. The parent never sees what a lab
is told: the lab reads it from its own socket, and what one user's environment holds cannot be found in another's lab.

The parent ends when the daemon closes the socket, or dies. With `--trust root` it imports with root's rights to become
somebody else and no others, and opens no file that anybody but root could have written. `root-whole` is for root's own
labs: it keeps all of root's rights, as they do, and opens no other files either.

Runs under the Python of somebody else's environment: 3.8 or newer, standard library only.
"""

import array
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

CONTROL_FD = 4
LIFTED = 16
OLDEST_PYTHON = (3, 8)
HERE = os.path.dirname(os.path.abspath(__file__))
LARGEST_MESSAGE = 4096

PR_SET_PDEATHSIG = 1
CAP_VERSION = 0x20080522
KEPT_CAPABILITIES = (6, 7)
"""CAP_SETGID and CAP_SETUID: what becoming somebody takes."""

IMPORTED_TOO = (
    # What every lab imports after its application class, by the names that JupyterLab 3 and 4 give it.
    "IPython.core.interactiveshell",
    "h11",
    "httpcore",
    "jinja2.ext",
    "jupyter_core.migrate",
    "jupyter_events",
    "jupyter_lsp.handlers",
    "jupyter_lsp.manager",
    "jupyter_lsp.serverextension",
    "jupyter_lsp.specs",
    "jupyter_server.kernelspecs.handlers",
    "jupyter_server.nbconvert.handlers",
    "jupyter_server.services.api.handlers",
    "jupyter_server.services.config.handlers",
    "jupyter_server.services.contents.handlers",
    "jupyter_server.services.events.handlers",
    "jupyter_server.services.kernels.handlers",
    "jupyter_server.services.kernels.websocket",
    "jupyter_server.services.kernelspecs.handlers",
    "jupyter_server.services.nbconvert.handlers",
    "jupyter_server.services.security.handlers",
    "jupyter_server.services.sessions.handlers",
    "jupyter_server.services.shutdown",
    "jupyter_server.view.handlers",
    "jupyter_server_terminals.app",
    "notebook_shim.nbserver",
    "terminado.websocket",
    "tornado.platform.asyncio",
)


class Unfit(Exception):  # noqa: N818  (its text is a sentence for the administrator)
    """No lab can be forked from this environment."""


def die_with(daemon: int) -> None:
    """End when the daemon does, however that happens."""
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != daemon:
        os._exit(1)


def take_control() -> socket.socket:
    """Return the socket to the daemon, out of the way of the descriptors that labs get."""
    import fcntl

    control = socket.socket(fileno=fcntl.fcntl(CONTROL_FD, fcntl.F_DUPFD_CLOEXEC, LIFTED))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for taken in (3, CONTROL_FD):  # so that nothing else ever gets these numbers
        if null != taken:
            os.dup2(null, taken, inheritable=False)
    if null not in (3, CONTROL_FD):
        os.close(null)
    return control


def drop_capabilities() -> None:
    """Keep the right to become another user, and nothing else of what root may do."""
    libc = ctypes.CDLL(None, use_errno=True)
    kept = 0
    for number in KEPT_CAPABILITIES:
        kept |= 1 << number
    header = (ctypes.c_uint32 * 2)(CAP_VERSION, 0)
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    wanted = (ctypes.c_uint32 * 6)(data[0] & kept, data[1] & kept, data[2], 0, 0, data[5])
    if libc.capset(header, wanted) != 0:
        raise OSError(ctypes.get_errno(), "capset")


class Guard:
    """Lets Python open only what nobody but root can have written: a hook for `sys.addaudithook`."""

    def __init__(self, inspector: Any) -> None:
        self._inspector = inspector
        self.refused = ""
        """What others can change, of the first file that was refused."""
        self.asleep = False
        """In labs: a hook cannot be taken away."""

    def __call__(self, event: str, arguments: Tuple[Any, ...]) -> None:
        """Raise PermissionError for code or data that somebody else could have written."""
        if self.asleep:
            return
        if event in OPENING and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.fsdecode(arguments[0])
            if event != "ctypes.dlopen" or "/" in path:  # else the loader looks in the system's folders
                self._look_at(path)
        elif event == "import" and isinstance(arguments[1], str):
            self._look_at(arguments[1])

    def _look_at(self, path: str) -> None:
        if is_the_systems(path):
            return
        culprit = self._inspector.culprit(path)
        if culprit:
            self.refused = self.refused or culprit
            raise PermissionError(1, "others than root can change it", culprit)


OPENING = frozenset({"open", "os.listdir", "os.scandir", "ctypes.dlopen"})
"""What Python announces before it reads something; the path is the first argument."""


def is_the_systems(path: str) -> bool:
    """Whether `path` is the system's own: no file that anybody could have written."""
    return path.startswith(("/proc/", "/dev/", "/sys/")) and not path.startswith("/dev/shm/")  # noqa: S108  (compared)


def load(name: str) -> Any:
    """Return the script `name` beside this one as a module: its folder is no place to import from."""
    spec = importlib.util.spec_from_file_location(f"jlabd_{name}", os.path.join(HERE, f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def enabled_extensions() -> List[str]:
    """Return the server extensions that the environment itself enables."""
    folder = os.path.join(sys.prefix, "etc", "jupyter", "jupyter_server_config.d")
    entries = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [name for entry in entries for name in enabled_in(os.path.join(folder, entry))]


def enabled_in(path: str) -> List[str]:
    """Return the server extensions that the file `path` enables; what is wrong with it each lab says itself."""
    try:
        with open(path, encoding="utf-8") as file:
            extensions = json.load(file)["ServerApp"]["jpserver_extensions"]
        return [name for name, wanted in extensions.items() if wanted is True]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def import_everything(lab: Any) -> None:
    """Import what labs need. Raises Unfit."""
    import warnings

    shown = warnings.showwarning
    warnings.showwarning = lambda *_args, **_keywords: None  # type: ignore[assignment]
    try:
        lab.check_python()
        lab.import_lab()
    except lab.Refused as refusal:
        raise Unfit(str(refusal)) from refusal
    try:
        for name in [*IMPORTED_TOO, *enabled_extensions()]:
            import_if_possible(name)
    finally:
        warnings.showwarning = shown


def import_if_possible(name: str) -> None:
    """Import a module that not every environment has; each lab says itself what is wrong with it."""
    with contextlib.suppress(Exception):
        importlib.import_module(name)


def check_that_nothing_lives(control: socket.socket) -> None:
    """Raise Unfit if something is under way that a fork would tear apart."""
    if len(os.listdir("/proc/self/task")) != 1:
        raise Unfit("importing it starts a thread")
    for number in map(int, os.listdir("/proc/self/fd")):
        kind = _target(number).partition(":")[0]
        if number > CONTROL_FD and number != control.fileno() and kind in ("socket", "pipe", "anon_inode"):
            raise Unfit(f"importing it leaves a {kind} open")
    objects = gc.get_objects()
    for module, name in (("asyncio", "AbstractEventLoop"), ("zmq", "Context")):
        kind_of = getattr(sys.modules.get(module), name, None)
        if kind_of is not None and any(issubclass(type(thing), kind_of) for thing in objects):
            raise Unfit(f"importing it makes a {name} of {module}")
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    raise Unfit("importing it leaves a process behind")


def _target(number: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""


def loaded_folders() -> List[str]:
    """Return the folders of what was imported, and those that are searched: where a change means new code."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    folders = {os.path.dirname(path) for path in files if isinstance(path, str) and os.path.isabs(path)}
    return sorted((folders | {path for path in sys.path if os.path.isdir(path)}) - {HERE})


@contextlib.contextmanager
def watched_environment() -> "Iterator[Set[str]]":
    """Yield the set of the environment variables that somebody looks at meanwhile."""
    environ = type(os.environ)
    plain = environ.__getitem__
    names: Set[str] = set()

    def noted(self: Any, name: Any) -> Any:
        names.add(os.fsdecode(name) if isinstance(name, (str, bytes)) else repr(name))
        return plain(self, name)

    environ.__getitem__ = noted  # type: ignore[method-assign]
    try:
        yield names
    finally:
        environ.__getitem__ = plain  # type: ignore[method-assign]


def prepare(control: socket.socket, guard: Optional[Guard]) -> Tuple[Any, Any, Set[str]]:
    """Import everything; return the modules `lab` and `captured`, and the variables that were read. Raises Unfit."""
    import site

    sys.dont_write_bytecode = True
    lab, captured = load("lab"), load("captured")
    canaries = (os.environ["HOME"], os.environ["USER"])
    try:
        with watched_environment() as variables:
            site.main()
            import_everything(lab)
    except PermissionError as error:
        if guard is None or not guard.refused:
            raise Unfit(f"importing it fails: {error}") from error
    if guard is not None and guard.refused:
        raise Unfit(f"others than root can change {guard.refused}, and jlabd does not run their code with its rights")
    sys.stdout.flush()  # what was printed is not to be printed by labs, too
    sys.stderr.flush()
    check_that_nothing_lives(control)
    found = captured.unexplained(canaries)
    if found:
        raise Unfit(f"{found}, which would be wrong in a lab")
    return lab, captured, variables


def tell(control: socket.socket, message: Dict[str, Any]) -> None:
    """Send the first message to the daemon, by a file: it may be long."""
    file = os.memfd_create("jlabd", os.MFD_CLOEXEC)
    os.write(file, json.dumps(message).encode())
    control.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
    os.close(file)


def receive(control: socket.socket) -> Tuple[bytes, int]:
    """Return the number of the next wish and the descriptor that comes with it; ends this process at the end."""
    numbers = array.array("i")
    data, ancillary, _, _ = control.recvmsg(
        LARGEST_MESSAGE, socket.CMSG_SPACE(numbers.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(content)
    if not data or not numbers:
        os._exit(0)
    return data, numbers[0]


def serve(control: socket.socket) -> socket.socket:
    """Fork labs until the daemon closes the socket. Returns in each lab, with the lab's own socket to the daemon."""
    while True:
        wish, channel = receive(control)
        try:
            between = os.fork()
        except OSError as error:
            outcome = error.errno or 1
        else:
            if between == 0:
                become_orphan()
                control.close()
                return socket.socket(fileno=channel)
            # When this returns the lab is the daemon's own child, because the process between them is gone.
            status = os.waitpid(between, 0)[1]
            outcome = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 4
        os.close(channel)
        control.send(wish + b" " + str(outcome).encode())


def become_orphan() -> None:
    """Fork once more, and return only in the process that has no parent of ours."""
    try:
        if os.fork() != 0:
            os._exit(0)
    except OSError as error:
        os._exit(error.errno or 1)


def main(argv: Sequence[str]) -> None:
    """Be the parent, and then each of the labs."""
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(f"{sys.version.split()[0]} is the version of its Python, and 3.8 is the oldest that works")
    options = dict(zip(argv[1::2], argv[2::2]))
    die_with(int(options["--daemon"]))
    control = take_control()
    guard = None
    if options.get("--trust") == "root":
        drop_capabilities()
    if options.get("--trust") in ("root", "root-whole"):
        guard = Guard(load("trust").Inspector())
        sys.addaudithook(guard)
    try:
        lab, captured, variables = prepare(control, guard)
        child = load("newborn")
    except Unfit as unfit:
        tell(control, {"reason": str(unfit)})
        return
    gc.collect()
    gc.freeze()
    tell(control, {"reason": "", "folders": loaded_folders(), "variables": sorted(variables)})
    channel = serve(control)
    if guard is not None:
        guard.asleep = True
    child.live(channel, lab, captured)


if __name__ == "__main__":
    main(sys.argv)
