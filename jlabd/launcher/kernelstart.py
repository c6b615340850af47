# What IPython's kernels of an instance with `kernel.asyncio_run` run first, as their PYTHONSTARTUP: `kernelasync.py`
# beside it, and then the PYTHONSTARTUP that was there before. In a Python that is no kernel (a terminal's) only the
# latter happens. It runs among the names of the notebook, and nothing of it stays there, not even a docstring.


def _jlabd_startup(names: dict) -> None:  # type: ignore[type-arg]  # Python 3.8
    import os
    import sys

    ours = os.environ.pop("PYTHONSTARTUP", "")
    before = os.environ.pop("JLABD_PYTHONSTARTUP", "")
    ipython = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(ipython, "kernel", None) is not None and sys.version_info >= (3, 8):
        path = os.path.join(os.path.dirname(ours), "kernelasync.py")
        apart = {"__name__": "jlabd_kernelasync", "__file__": path}
        with open(path, "rb") as file:
            exec(compile(file.read(), path, "exec"), apart)  # noqa: S102  (a module that is nowhere to be imported from)
        apart["patch"]()  # type: ignore[operator]  # a function
    if before:
        os.environ["PYTHONSTARTUP"] = before  # for what the notebook starts in turn
        try:
            with open(before, "rb") as file:
                exec(compile(file.read(), before, "exec"), names)  # noqa: S102  (what PYTHONSTARTUP is for)
        except OSError as error:
            print(f"Could not open PYTHONSTARTUP\n{type(error).__name__}: {error}", file=sys.stderr)


try:
    _jlabd_startup(globals())
finally:
    del _jlabd_startup
