"""jlabd: the supervisor for JupyterLab."""

__version__ = "0.1.0"
