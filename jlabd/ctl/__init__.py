"""The command `jlabctl`. Starts fast: what a command does not need is not imported (neither are `re` and its users)."""
