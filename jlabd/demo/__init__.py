"""The demo: two labs behind an nginx of its own, everything below `.demo/` of the current folder, in the foreground."""
