"""`jlabctl add` and `remove`: a program of its own, for it knows all of the configuration and is slow to import."""
