"""Warm starts: one process per environment that has JupyterLab imported, from which labs are forked in milliseconds."""
