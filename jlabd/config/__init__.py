"""The room that reads `/etc/jlabd.toml` into `jlabd.spec.Configuration`, and edits it.

`read` is the doorway; `problems` is what it says when something is wrong. Nothing here keeps state.
"""
